// A command with a button that copies it.

import { el } from './dom.js';
import { visible } from './words.js';

export function commandLine(text) {
  const code = el('code', {}, text);
  const button = el('button', { type: 'button', 'aria-label': `Copy: ${visible(text)}` }, 'Copy');
  button.addEventListener('click', () => copy(code, text, button));
  return el('div', { class: 'command' }, code, button);
}

async function copy(code, text, button) {
  const range = document.createRange();
  range.selectNodeContents(code);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else if (!document.execCommand('copy')) throw new Error('refused');
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Selected'; // the browser lets no page copy here; the keyboard does
  }
  setTimeout(() => { button.textContent = 'Copy'; }, 2000);
}
