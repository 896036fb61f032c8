// Small pieces that more than one part of the page is made of.

import { el } from './dom.js';
import { now } from './state.js';
import { count, marks, plain, size, span, utc } from './words.js';

const kinds = { READY: 'safe', PASSED: 'safe', PARTIAL: 'attention', FAILED: 'danger' };

// badge is a mark, a word and a colour, so that no one of them is needed.
export function badge(kind, text, big) {
  const mark = el('span', { 'aria-hidden': 'true' }, marks[kind] || '…');
  return el('span', { class: `badge ${kind || ''}${big ? ' big' : ''}` }, mark, ` ${text}`);
}

export const stateBadge = (name) => badge(kinds[plain(name)], plain(name));

// age is how long ago something was; tick keeps it right.
export function age(at) {
  const ms = Date.parse(at);
  if (!(ms > 0)) return el('span', {}, '-');
  const t = el('time', { datetime: new Date(ms).toISOString(), title: utc(ms), 'data-age': ms });
  t.textContent = span(now() - ms);
  return t;
}

export const mono = (text) => el('span', { class: 'mono' }, text);
export const quiet = (text) => el('span', { class: 'quiet' }, text);

export function snapshotLine(s) {
  return [mono(s.name), `, revision ${count(s.revision)}, ${count(s.keys)} keys, ${size(s.bytes)}`];
}

// table is one that may be wider than its place.
export function table(head, rows) {
  const cells = head.map((h) => el('th', { scope: 'col' }, h));
  return el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, el('tr', {}, ...cells)), el('tbody', {}, ...rows)));
}
