// The dialog in which an action is prepared, done, and reported. One that ends after its dialog was closed is reported in the page.

import { Problem } from './asking.js';
import { $, button, el } from './dom.js';
import { sentence } from './words.js';

let opened = null; // the action whose dialog was opened last: what belongs to another one must not be shown in it

// ask shows a dialog. act does the action, and gets a function that shows how far it is, or how it has ended. When it
// returns a text and a further action, a second button does that one. ask returns the button, so that the caller can allow
// it later.
export function ask(title, body, text, act) {
  const action = { title, body, said: [], previewed: false };
  opened = action;
  const dialog = $('dialog');
  const cancel = button('Close', {}, () => dialog.close());
  const go = button(text, { class: 'go' }, () => run(action, go, act));
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

const isShown = (action) => opened === action && $('dialog').open;

// say shows what there is to say of an action, if its dialog is still there.
function say(action, what) {
  action.said = what;
  if (isShown(action)) $('dialog-result').replaceChildren(...what);
}

async function run(action, go, act) {
  go.disabled = true;
  lock(action, true);
  say(action, [el('p', {}, 'Working…')]);
  try {
    const next = await act((...what) => say(action, what));
    if (next) offer(action, go, next);
    else finish(action, go);
  } catch (e) {
    say(action, [problemBox(e)]);
    go.disabled = false;
    lock(action, action.previewed);
    if (isShown(action)) go.focus();
    else tell(action);
  }
}

// lock keeps the fields of an action from being changed: it does what they said when it began, also after a preview.
function lock({ body }, locked) {
  for (const e of body.flatMap((part) => [...part.querySelectorAll('input, select, textarea')])) e.disabled = locked;
}

// offer shows the button that does what was previewed. Nobody is told of a preview after its dialog was closed.
function offer(action, go, [text, act]) {
  action.previewed = true;
  if (!isShown(action)) return;
  const second = button(text, { class: 'go' }, () => run(action, second, act));
  go.replaceWith(second);
  second.focus();
}

function finish(action, go) {
  go.remove();
  if (isShown(action)) $('dialog-buttons').lastElementChild.focus();
  else tell(action);
}

// tell says in the page how an action has ended whose dialog is gone.
function tell({ title, said }) {
  const box = el('div', { class: 'notice outcome' }, el('p', {}, el('b', {}, title)), ...said,
    button('Dismiss', { 'aria-label': `Dismiss: ${title}` }, () => {
      box.remove();
      $('view').focus();
    }));
  $('outcomes').append(box);
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
