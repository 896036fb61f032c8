// Small pieces that several parts of the page use.

import { button, el, setText } from './dom.js';
import { now, state } from './state.js';
import { count, kindOf, marks, minute, plain, size, span, utc, visible, words } from './words.js';

const kinds = { READY: 'safe', PASSED: 'safe', PARTIAL: 'attention', FAILED: 'danger' };

// badge has a mark, a word and a colour: each of them alone is enough.
export function badge(kind, text, big) {
  const mark = el('span', { 'aria-hidden': 'true' }, marks[kind] || '…');
  return el('span', { class: `badge ${kind || ''}${big ? ' big' : ''}` }, mark, ` ${text}`);
}

export const stateBadge = (name) => badge(kinds[plain(name)], plain(name));

// verdictBadge is the verdict on a cluster, which is not known when the page is not current.
export function verdictBadge(verdict, big) {
  const kind = kindOf(verdict);
  return state.stale ? badge('unknown', `UNKNOWN, was ${words[kind]}`, big) : badge(kind, words[kind], big);
}

// age shows how long ago a time was; tick updates it. The time itself is its title.
export function age(at) {
  const ms = Date.parse(at);
  if (!(ms > 0)) return el('span', {}, '-');
  const t = el('time', { datetime: new Date(ms).toISOString(), title: utc(ms), 'data-age': ms });
  t.textContent = span(now() - ms);
  return t;
}

// due shows how long it is until a time, or that it has passed.
export function due(at) {
  const ms = Date.parse(at);
  if (!(ms > 0)) return el('span', {}, '-');
  const t = el('time', { datetime: new Date(ms).toISOString(), title: utc(ms), 'data-due': ms });
  t.textContent = dueIn(ms);
  return t;
}

export const dueIn = (ms) => (ms > now() ? `in ${span(ms - now())}` : `due ${span(now() - ms)} ago`);

// when shows a time, and how long ago it was.
export function when(at) {
  const ms = Date.parse(at);
  if (!(ms > 0)) return el('span', {}, '-');
  return el('span', { class: 'when' }, minute(ms), ' ', el('span', { class: 'quiet' }, '(', age(at), ' ago)'));
}

export const mono = (text) => el('span', { class: 'mono' }, text);
export const quiet = (text) => el('span', { class: 'quiet' }, text);

export const facts = (s) => `revision ${count(s.revision)}, ${count(s.totalKeys)} keys, ${size(s.dbSizeBytes)}`;

// terms is a list of names and facts; those without a fact are left out.
export function terms(all) {
  const has = ([, what]) => what !== '' && what !== null && what !== undefined;
  return el('dl', {}, ...all.filter(has).flatMap(([name, what]) => [
    el('dt', {}, name), el('dd', {}, ...(Array.isArray(what) ? what : [what])),
  ]));
}

// steady is a text that changes when something of a cluster does that is more than a number which always moves. A part of the page
// that is made anew with each of those would lose the focus.
const moves = new Set(['freeBytes', 'progress', 'recoveryWindow', 'text']); // the text of a finding has ages in it

export const steady = (c) => JSON.stringify(c, (key, value) => (moves.has(key) ? undefined : value));

// table is a table that can scroll when it is wider than its place.
export function table(label, head, rows) {
  const cells = head.map((h) => el('th', { scope: 'col' }, h));
  return el('div', { class: 'scroll', role: 'region', 'aria-label': `${label}, table`, tabindex: '0' },
    el('table', {}, el('thead', {}, el('tr', {}, ...cells)), el('tbody', {}, ...rows)));
}

export const row = (name, ...cells) => el('tr', {}, el('th', { scope: 'row' }, name), ...cells.map((c) => el('td', {}, ...[c].flat())));

// foldable keeps its state, open or closed by the person, when it is made again.
export function foldable(key, attributes, summary, body, toggled) {
  const details = el('details', attributes, summary, body);
  if (state.unfolded.has(key)) details.open = state.unfolded.get(key);
  summary.addEventListener('click', () => {
    state.unfolded.set(key, !details.open);
    if (toggled) toggled(!details.open);
  });
  return details;
}

// retell shows the texts of a cluster's findings as they are now, where these findings are shown.
export function retell(place, c) {
  const [worst] = c.findings;
  for (const why of place.querySelectorAll('.why')) {
    setText(why, worst ? visible(worst.text) : '');
    if (worst) why.title = worst.text;
  }
  place.querySelectorAll('.findings .text').forEach((e, i) => setText(e, visible(c.findings[i].text)));
}

// commandLine is a command with a button that copies it.
export function commandLine(text) {
  const code = el('code', {}, text);
  const b = button('Copy', { 'aria-label': `Copy: ${visible(text)}` }, () => copy(code, text, b));
  return el('div', { class: 'command' }, code, b);
}

async function copy(code, text, b) {
  const range = document.createRange();
  range.selectNodeContents(code);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else if (!document.execCommand('copy')) throw new Error('refused');
    b.textContent = 'Copied';
  } catch {
    b.textContent = 'Selected'; // the browser lets no page copy here; the keyboard does
  }
  setTimeout(() => { b.textContent = 'Copy'; }, 2000);
}
