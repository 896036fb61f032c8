// The list of a cluster's snapshots: only the rows that can be seen are made, so that thousands scroll smoothly.

import { choose, place } from './address.js';
import { cuts, heads, row, widen } from './columns.js';
import { el, keyed, setText } from './dom.js';
import { search } from './listing.js';
import { clusterOf, state } from './state.js';
import { several, stopped, utc, visible } from './words.js';

const spare = 30; // rows that are made above and below those that can be seen
const step = 3; // how many of them a frame makes on each side, so that it is not late
const states = ['READY', 'PARTIAL', 'FAILED', 'SAVING', 'DELETING'];

// makeList makes the frame: the search, and the place for the rows.
export function makeList(at, changed) {
  const rows = el('tbody', { id: 'rows', role: 'rowgroup' });
  const scroller = el('div', { class: 'scroller', role: 'region', 'aria-label': 'Snapshots, newest first', tabindex: '0' },
    el('table', { id: 'list', role: 'table' }, el('thead', { role: 'rowgroup' }, heads()), rows));
  const section = el('section', { id: 'snapshots', 'aria-labelledby': 'snapshots-title', tabindex: '-1' },
    el('div', { class: 'bar' }, el('h3', { id: 'snapshots-title' }, 'Snapshots'), filters(at, changed)),
    el('p', { id: 'list-error', class: 'notice danger', role: 'alert', hidden: true }), scroller, el('p', { id: 'count', class: 'quiet', role: 'status' }));
  scroller.addEventListener('scroll', () => soon(section, at.cluster), { passive: true });
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
  widen(section.querySelector('#list'), list.sorted, list.cluster);
  showRows(section, list.cluster);
}

function problem(section, list) {
  const c = clusterOf(list.cluster);
  const text = c && c.verdict === 'VERDICT_UNKNOWN' ? c.findings[0].text : list.problem && `The list cannot be read: ${stopped(list.problem.message)}`;
  const old = list.sorted.length ? ` The rows below are as they were at ${utc(list.read + state.skew)}.` : '';
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
  const from = Math.min(Math.max(0, section.found.length - 1), Math.floor(scroller.scrollTop / height));
  return { from, to: Math.min(section.found.length, from + Math.ceil(scroller.clientHeight / height) + 1), height };
}

// soon makes the rows for the place that the list was scrolled to, with the next frame.
function soon(section, cluster) {
  if (section.waits) return;
  section.waits = true;
  requestAnimationFrame(() => {
    section.waits = false;
    showRows(section, cluster);
  });
}

// showRows makes the rows that can be seen and some of the spare ones beyond them, and leaves room for the others. After
// a jump all rows are new, and the spare ones come with the next frames.
function showRows(section, cluster) {
  if (!section.querySelector('.scroller').clientWidth) return; // rows have no height where nothing is shown
  const all = section.found;
  const seen = inView(section);
  const { height } = seen;
  const before = section.rows || seen;
  const jumped = seen.from >= before.to || before.from >= seen.to;
  const least = Math.max(0, seen.from - spare);
  const most = Math.min(all.length, seen.to + spare);
  const from = jumped ? seen.from : Math.max(least, Math.min(seen.from, before.from - step));
  const to = jumped ? seen.to : Math.min(most, Math.max(seen.to, before.to + step));
  section.rows = { from, to };
  const rows = section.querySelector('#rows');
  const cut = cuts(section.querySelector('#list'));
  rows.style.paddingTop = `${Math.round(from * height)}px`;
  rows.style.paddingBottom = `${Math.round((all.length - to) * height)}px`;
  keyed(rows, all.slice(from, to).map((s, i) => [s.name, `${from + i} ${cut} ${s.etag || JSON.stringify(s)}`, () => row(s, cluster, from + i, cut)]));
  if (from > least || to < most) soon(section, cluster);
}
