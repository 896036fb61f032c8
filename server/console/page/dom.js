// Elements: to find, make and update them.

import { visible } from './words.js';

export const $ = (id) => document.getElementById(id);

const shown = (child) => child !== null && child !== undefined && child !== false;

function fill(e, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) e.setAttribute(name, '');
    else if (value !== null && value !== undefined && value !== false) e.setAttribute(name, value);
  }
  e.append(...children.filter(shown).map((c) => (c instanceof Node ? c : visible(c))));
  return e;
}

// el makes an element. Children are nodes or text; null and false are left out.
export const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

// svg makes an element of a picture.
export const svg = (tag, attributes, ...children) => fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

// button makes a button that does something.
export function button(text, attributes, act) {
  const b = el('button', { type: 'button', ...attributes }, text);
  b.addEventListener('click', act);
  return b;
}

// setText sets the text of an element only when it differs.
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// called is what an element is to a person. A part has one summary or heading, and the text of it changes.
const called = (e) => [e.tagName, e.id, e.getAttribute('href'),
  e.getAttribute('aria-label') || (/^(SUMMARY|H2)$/.test(e.tagName) ? '' : e.textContent)].join('\n');

// replace puts an element into the place of another one. What had the focus in that one has it again, if it is still there.
function replace(old, fresh) {
  const had = old.contains(document.activeElement) ? called(document.activeElement) : '';
  old.replaceWith(fresh);
  if (!had) return;
  const again = [fresh, ...fresh.querySelectorAll('a, button, summary, input, select, [tabindex]')].find((e) => called(e) === had);
  if (again) again.focus({ preventScroll: true });
}

// keyed updates the children of a parent to a list of [key, signature, make]. Unchanged children stay the same elements,
// and so keep focus and selection. Those that go do so first, because the others would be moved before them.
export function keyed(parent, wanted) {
  const keys = new Set(wanted.map(([key]) => key));
  for (const e of [...parent.children]) if (!keys.has(e.dataset.key)) e.remove();
  const old = new Map([...parent.children].map((e) => [e.dataset.key, e]));
  let at = parent.firstElementChild;
  for (const [key, signature, make] of wanted) {
    let e = old.get(key);
    if (!e || e.dataset.signature !== signature) {
      const fresh = make();
      fresh.dataset.key = key;
      fresh.dataset.signature = signature;
      if (e) {
        if (at === e) at = fresh;
        replace(e, fresh);
      }
      e = fresh;
    }
    if (at === e) at = e.nextElementSibling;
    else parent.insertBefore(e, at);
  }
}
