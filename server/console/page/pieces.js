// Small pieces that several parts of the page use.

import { el } from './dom.js';
import { now } from './state.js';
import { count, marks, plain, size, span, utc } from './words.js';

const kinds = { READY: 'safe', PASSED: 'safe', PARTIAL: 'attention', FAILED: 'danger' };

// badge has a mark, a word and a colour: each of them alone is enough.
export function badge(kind, text, big) {
  const mark = el('span', { 'aria-hidden': 'true' }, marks[kind] || '…');
  return el('span', { class: `badge ${kind || ''}${big ? ' big' : ''}` }, mark, ` ${text}`);
}

export const stateBadge = (name) => badge(kinds[plain(name)], plain(name));

// age shows how long ago a time was; tick updates it.
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

// table is a table that can scroll when it is wider than its place.
export function table(head, rows) {
  const cells = head.map((h) => el('th', { scope: 'col' }, h));
  return el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, el('tr', {}, ...cells)), el('tbody', {}, ...rows)));
}
