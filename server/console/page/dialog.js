// The dialog in which an action is prepared, done, and reported.

import { Problem } from './asking.js';
import { $, button, el } from './dom.js';
import { sentence } from './words.js';

let opened = 0; // dialogs so far: what belongs to an earlier one must not be shown in a later one

// ask shows a dialog. act does the action; when it returns a text and a further action, a second button does that one. It
// returns the button, so that the caller can allow it later.
export function ask(title, body, text, act) {
  const mine = ++opened;
  const dialog = $('dialog');
  const cancel = button('Close', {}, () => dialog.close());
  const go = button(text, { class: 'go' }, () => run(mine, go, act));
  $('dialog-title').textContent = title;
  $('dialog-body').replaceChildren(...body);
  $('dialog-result').replaceChildren();
  $('dialog-buttons').replaceChildren(go, cancel);
  dialog.onkeydown = (e) => { // there is no form, which the page's policy would not let go anywhere
    if (e.key === 'Enter' && e.target.tagName === 'INPUT' && !go.disabled) go.click();
  };
  if (!dialog.open) dialog.showModal();
  return go;
}

async function run(mine, go, act) {
  go.disabled = true;
  report(el('p', {}, 'Working…'));
  try {
    const next = await act();
    if (mine !== opened) return;
    if (next) {
      const [text, then] = next;
      const second = button(text, { class: 'go' }, () => run(mine, second, then));
      go.replaceWith(second);
      second.focus();
    } else {
      go.remove();
      $('dialog-buttons').lastElementChild.focus();
    }
  } catch (e) {
    if (mine !== opened) return;
    report(problemBox(e));
    go.disabled = false;
  }
}

// report shows how far the action is, or how it ended.
export function report(...what) {
  $('dialog-result').replaceChildren(...what);
}

// problemBox is an error as the API gave it: a Problem, or a google.rpc.Status.
export function problemBox(e) {
  const status = e instanceof Problem ? e.status : e;
  const details = (status && status.details) || [];
  const reason = details.map((d) => d.reason).find(Boolean);
  const fields = details.flatMap((d) => d.fieldViolations || []).map((v) => el('li', {}, `${v.field}: ${v.description}`));
  const retry = details.map((d) => d.retryDelay).find(Boolean);
  return el('div', { class: 'notice danger', role: 'alert' }, el('p', {}, reason ? el('b', {}, `${reason}: `) : null, sentence(e.message || 'unknown')),
    fields.length ? el('ul', {}, ...fields) : null, retry ? el('p', {}, `Try again in ${retry}.`) : null);
}
