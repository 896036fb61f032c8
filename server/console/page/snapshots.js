// The list of a cluster's snapshots: only the rows that can be seen are made, so that thousands scroll smoothly.

import { choose, place, toSnapshot } from './address.js';
import { el, keyed, setText } from './dom.js';
import { scheduleOf, search } from './listing.js';
import { age, badge, stateBadge } from './pieces.js';
import { clusterOf, now, state } from './state.js';
import { count, minute, plain, several, size, span, stopped, utc, visible } from './words.js';

// Rows that are made above and below those that can be seen. A list that scrolls on makes many, and so seldom any; one
// that jumps makes few, because all of them are new.
const many = 30;
const few = 10;
const near = 8; // how few of them are left when rows are made again
const heads = ['Name', 'State', 'Taken, UTC', 'By', 'Database', 'Stored', 'Keys', 'Revision', 'Backends', 'Verified'];
const numbers = new Set(['Database', 'Stored', 'Keys', 'Revision']);
const states = ['READY', 'PARTIAL', 'FAILED', 'SAVING', 'DELETING'];

// makeList makes the frame: the search, and the place for the rows.
export function makeList(at, changed) {
  const rows = el('tbody', { id: 'rows', role: 'rowgroup' });
  const scroller = el('div', { class: 'scroller', role: 'region', 'aria-label': 'Snapshots, newest first', tabindex: '0' },
    el('table', { id: 'list', role: 'table' }, el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' },
      ...heads.map((h) => el('th', { scope: 'col', role: 'columnheader', class: numbers.has(h) && 'num' }, h)))), rows));
  const section = el('section', { id: 'snapshots', 'aria-labelledby': 'snapshots-title', tabindex: '-1' },
    el('div', { class: 'bar' }, el('h3', { id: 'snapshots-title' }, 'Snapshots'), filters(at, changed)),
    el('p', { id: 'list-error', class: 'notice danger', role: 'alert', hidden: true }), scroller, el('p', { id: 'count', class: 'quiet', role: 'status' }));
  let waits = false;
  scroller.addEventListener('scroll', () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      if (!made(section)) showRows(section, at.cluster);
    });
  }, { passive: true });
  return section;
}

function filters(at, changed) {
  const chosen = (name, input, event) => {
    input.addEventListener(event, () => {
      choose(name, input.value);
      changed();
    });
    return input;
  };
  const value = (name) => at.choices.get(name) || '';
  const option = (name) => (v, text) => el('option', { value: v, selected: v === value(name) }, text);
  const schedules = [...new Set(clusterOf(at.cluster).schedules.map((s) => s.name))];
  return el('div', { class: 'filters' },
    el('label', { class: 'search' }, 'Search ', chosen('q', el('input', { id: 'q', type: 'search', value: value('q'), placeholder: 'name, label=value, schedule' }), 'input')),
    el('label', {}, 'State ', chosen('state', el('select', { id: 'state' }, el('option', { value: '' }, 'any'),
      ...states.map((s) => option('state')(`STATE_${s}`, s))), 'change')),
    schedules.length ? el('label', {}, 'Schedule ', chosen('schedule', el('select', { id: 'schedule' }, el('option', { value: '' }, 'any'),
      ...schedules.map((s) => option('schedule')(s, s))), 'change')) : null,
    el('label', {}, 'Taken before, UTC ', chosen('until', el('input', { id: 'until', type: 'datetime-local', max: '9999-12-31T23:59', value: value('until') }), 'change')));
}

// showList shows a list as it is known now.
export function showList(section, list) {
  const { choices } = place();
  const of = (name) => choices.get(name) || '';
  section.found = search(list, { words: of('q'), state: of('state'), schedule: of('schedule'), until: of('until') });
  problem(section, list);
  setText(section.querySelector('#count'), counted(section.found.length, list));
  section.querySelector('#list').setAttribute('aria-rowcount', String(section.found.length + 1));
  showRows(section, list.cluster);
}

function problem(section, list) {
  const c = clusterOf(list.cluster);
  const text = c && c.verdict === 'VERDICT_UNKNOWN' ? c.findings[0].text : list.problem && `The list cannot be read: ${stopped(list.problem.message)}`;
  const old = list.sorted.length ? ` The rows below are as they were at ${utc(list.asked + state.skew)}.` : '';
  const p = section.querySelector('#list-error');
  setText(p, text ? visible(`${text}${old}`) : '');
  p.hidden = !text;
}

function counted(n, list) {
  const all = list.sorted.length;
  const more = list.complete ? '' : ', and more are on their way';
  const bad = list.unreadable ? ` ${several(list.unreadable, 'record')} cannot be read: snapshotd list names them.` : '';
  if (!all) return list.complete ? `There is no snapshot.${bad}` : 'Asking for the snapshots…';
  if (n === all) return `${several(all, 'snapshot')}${more}, newest first.${bad}`;
  return `${n ? n : 'None'} of ${several(all, 'snapshot')}${more}${n ? ', newest first' : ': no such snapshot'}.${bad}`;
}

// inView returns which rows can be seen, from and to an index, and how high each is.
function inView(section) {
  const scroller = section.querySelector('.scroller');
  const one = section.querySelector('.snapshot');
  const height = one ? one.getBoundingClientRect().height : 36;
  const from = Math.min(section.found.length, Math.floor(scroller.scrollTop / height));
  return { from, to: Math.min(section.found.length, from + Math.ceil(scroller.clientHeight / height)), height };
}

// made reports whether the rows that can be seen, and some beyond them, have been made.
function made(section) {
  const seen = inView(section);
  const { from, to } = section.rows;
  return (from === 0 || seen.from - from >= near) && (to === section.found.length || to - seen.to >= near);
}

// showRows makes the rows that can be seen and some beyond them, and leaves room for the others.
function showRows(section, cluster) {
  const rows = section.querySelector('#rows');
  const all = section.found;
  const seen = inView(section);
  const { height } = seen;
  const before = section.rows || seen;
  const spare = seen.from < before.to && before.from < seen.to ? many : few;
  const from = Math.max(0, seen.from - spare);
  const to = Math.min(all.length, seen.to + spare);
  section.rows = { from, to };
  keyed(rows, [
    room('above', from * height),
    ...all.slice(from, to).map((s, i) => [s.name, `${from + i} ${s.etag || JSON.stringify(s)}`, () => row(s, cluster, from + i)]),
    room('below', (all.length - to) * height),
  ]);
}

const room = (key, height) => [key, String(Math.round(height)), () => el('tr', { class: 'room', role: 'presentation' },
  el('td', { role: 'presentation', colspan: heads.length, height: Math.round(height) }))];

// cell is one cell of a row; its label is shown where there is no room for a head.
function cell(label, className, ...children) {
  return el('td', { 'data-label': label, class: className, role: 'cell' }, ...children);
}

function row(s, cluster, i) {
  const v = s.proof && s.proof.error === '' ? s.proof : s.verification;
  const at = Date.parse(s.createTime);
  return el('tr', { class: 'snapshot', role: 'row', 'aria-rowindex': i + 2 },
    cell(null, '', el('a', { class: 'mono', href: toSnapshot(cluster, s.name) }, s.name), s.pinned && ' ', s.pinned && badge('', 'PINNED')),
    cell(null, '', stateBadge(s.state)),
    cell(null, '', el('time', { datetime: s.createTime }, minute(at)), ' ', el('span', { class: 'quiet', 'data-age': at }, span(now() - at))),
    cell(null, '', scheduleOf(s) || plain(s.trigger)),
    cell('Database', 'num', size(s.dbSizeBytes)),
    cell('Stored', 'num', size(s.storedSizeBytes)),
    cell('Keys', 'num', count(s.totalKeys)),
    cell('Revision', 'num', count(s.revision)),
    cell(null, '', ...s.locations.flatMap((l) => [el('span', { class: 'where' }, l.backend, ' ', stateBadge(l.state)), ' '])),
    cell('Verified', '', ...(v ? [stateBadge(v.state), ` ${plain(v.level)} `, age(v.time)] : ['-'])));
}
