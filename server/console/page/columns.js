// The columns of the list of snapshots. Their widths are computed once, from the texts of all snapshots: each row can be
// laid out without the others then, and no column moves while the list scrolls.

import { toSnapshot } from './address.js';
import { el } from './dom.js';
import { scheduleOf } from './listing.js';
import { age, badge, stateBadge } from './pieces.js';
import { now } from './state.js';
import { count, minute, plain, size, span, visible } from './words.js';

const widest = 40; // rem; a longer text is cut, and its title has the whole
const narrow = matchMedia('(max-width: 48rem)'); // as in console.css
const oldest = '1000d'; // no age is wider

const by = (s) => scheduleOf(s) || plain(s.trigger);
const holds = (v) => Boolean(v) && plain(v.state) === 'PASSED' && !v.error;

// told is the last verification of a snapshot if it was not passed, or else the proof, which says the most. A damaged
// copy does not void a proof: it is of the bytes that the other copies have.
const told = (s) => (holds(s.proof) && (!s.verification || holds(s.verification)) ? s.proof : s.verification);
const where = (s) => s.locations.map((l) => `${l.backend} ${plain(l.state)}`).join(', ');
const digits = (text) => text.replace(/\d/g, '0'); // all are of one width

const number = (head, text) => ({ head, label: head, number: true, shape: (s) => digits(text(s)), fill: (s) => [text(s)] });

// A column has a head; a label, which is shown where there is no room for a head; the shape of a cell, which is the same
// for texts of the same width; what fills a cell; and the whole text of one that may be cut.
const columns = [
  {
    head: 'Name', shape: (s) => `${s.name.length} ${Boolean(s.pinned)}`, title: (s) => `${s.name}${s.pinned ? ', PINNED' : ''}`,
    fill: (s, cluster) => [el('a', { class: 'mono', href: toSnapshot(cluster, s.name) }, s.name), s.pinned && ' ', s.pinned && badge('', 'PINNED')],
  },
  { head: 'State', shape: (s) => s.state, fill: (s) => [stateBadge(s.state)] },
  { head: 'Taken, UTC', shape: () => '', fill: taken },
  { head: 'By', shape: by, title: by, fill: (s) => [by(s)] },
  number('Database', (s) => size(s.dbSizeBytes)),
  number('Stored', (s) => size(s.storedSizeBytes)),
  number('Keys', (s) => count(s.totalKeys)),
  number('Revision', (s) => count(s.revision)),
  {
    head: 'Backends', shape: where, title: where,
    fill: (s) => s.locations.flatMap((l) => [el('span', { class: 'where' }, l.backend, ' ', stateBadge(l.state)), ' ']),
  },
  { head: 'Verified', label: 'Verified', shape: verdict, fill: verified },
];

function taken(s) {
  const at = Date.parse(s.createTime);
  return [el('time', { datetime: s.createTime }, minute(at)), ' ', el('span', { class: 'quiet', 'data-age': at }, span(now() - at))];
}

function verdict(s) {
  const v = told(s);
  return v ? `${v.state} ${v.level}` : '';
}

function verified(s) {
  const v = told(s);
  return v ? [stateBadge(v.state), ` ${plain(v.level)} `, age(v.time)] : ['-'];
}

const head = (c) => el('th', { scope: 'col', role: 'columnheader', class: c.number && 'num' }, c.head);

function cell(c, s, cluster, cut) {
  const title = cut && c.title && visible(c.title(s));
  return el('td', { 'data-label': c.label, class: c.number && 'num', role: 'cell', title }, ...c.fill(s, cluster));
}

// heads makes the row of the heads.
export const heads = () => el('tr', { role: 'row' }, ...columns.map(head));

// cuts reports whether the texts of a table may be cut. Otherwise a title would only repeat them, to a screen reader, too.
export const cuts = (table) => table.classList.contains('cut') || narrow.matches;

// row makes the row of a snapshot of a cluster, the i-th of the list.
export const row = (s, cluster, i, cut) => el('tr', { class: 'snapshot', role: 'row', 'aria-rowindex': i + 2 },
  ...columns.map((c) => cell(c, s, cluster, cut)));

// widen gives the columns of a table room for the snapshots of a cluster. Each of them is looked at once, and columns only become wider.
export function widen(table, snapshots, cluster) {
  if (!table.clientWidth) return; // nothing has a width where nothing is shown
  const known = table.known || { snapshots: new WeakSet(), shapes: columns.map(() => new Set()), widths: columns.map(() => 0) };
  const fresh = table.known ? [] : columns.map((c, i) => [i, head(c)]);
  table.known = known;
  for (const s of snapshots) {
    if (known.snapshots.has(s)) continue;
    known.snapshots.add(s);
    columns.forEach((c, i) => {
      const shape = c.shape(s);
      if (known.shapes[i].has(shape)) return;
      known.shapes[i].add(shape);
      fresh.push([i, cell(c, s, cluster)]);
    });
  }
  if (fresh.length) setWidths(table, known.widths, fresh);
}

// setWidths measures cells, and gives their columns at least as much room. What is left of the table is shared between
// the columns.
function setWidths(table, widths, fresh) {
  const place = el('div', { class: 'measure', 'aria-hidden': 'true' }, ...fresh.map(([, e]) => e));
  for (const t of place.querySelectorAll('[data-age]')) t.textContent = oldest;
  table.after(place);
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  for (const [i, e] of fresh) {
    const width = Math.ceil(e.getBoundingClientRect().width + 1) / rem; // it may be drawn between two pixels
    widths[i] = Math.max(widths[i], width);
  }
  place.remove();
  const room = widths.map((w) => Math.min(widest, w));
  table.classList.toggle('cut', widths.some((w) => w > widest));
  table.style.setProperty('--columns', room.map((w) => `minmax(${w}rem, ${w}fr)`).join(' '));
  table.style.setProperty('--least', `${room.reduce((a, b) => a + b)}rem`);
}
