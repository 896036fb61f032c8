// The list of snapshots, and its filter.

import { reach } from './commands.js';
import { details } from './details.js';
import { $, el, keyed, setText } from './dom.js';
import { age, badge, stateBadge } from './pieces.js';
import { mostRows, state } from './state.js';
import { count, plain, size, stopped, utc, visible } from './words.js';

export function showFilters(o) {
  $('cluster-label').hidden = o.clusters.length < 2;
  const names = o.clusters.map((c) => c.name);
  if (JSON.stringify(names) === $('cluster').dataset.names) return;
  const was = $('cluster').value;
  $('cluster').replaceChildren(...names.map((n) => el('option', { value: n, selected: n === was }, n)));
  $('cluster').dataset.names = JSON.stringify(names);
}

export function showList() {
  const l = state.listed;
  showProblem(state.listProblem, l);
  keyed($('rows'), (l ? l.snapshots : []).flatMap((s) => {
    const key = `${s.cluster}/${s.name}`;
    const signature = JSON.stringify(s);
    const rows = [[key, signature, () => row(s, key)]];
    if (state.open.has(key)) rows.push([`${key}/details`, JSON.stringify([s, reach()]), () => details(s)]);
    return rows;
  }));
  $('more').hidden = !l || !l.more || l.snapshots.length >= mostRows;
  setText($('count'), l ? counted(l) : '');
}

function showProblem(p, l) {
  const old = l ? ` The rows below are as they were at ${utc(l.asked + state.skew)}.` : '';
  setText($('list-error'), p ? visible(`The list cannot be read: ${stopped(p.message)}${old}`) : '');
  $('list-error').hidden = !p;
}

function counted(l) {
  const n = l.snapshots.length;
  if (n === 0) return 'No such snapshot.';
  const all = n >= mostRows ? ': choose a time, or use snapshotd list' : '';
  return `${n} shown, newest first${l.more ? `; there are more${all}` : ''}.`;
}

// cell is one cell of a row; its label is shown where there is no room for a head.
function cell(label, className, ...children) {
  return el('td', { 'data-label': label, class: className, role: 'cell' }, ...children);
}

function row(s, key) {
  const button = el('button', { type: 'button', class: 'name', 'aria-expanded': String(state.open.has(key)) }, s.name);
  button.addEventListener('click', () => {
    if (!state.open.delete(key)) state.open.add(key);
    button.setAttribute('aria-expanded', String(state.open.has(key)));
    showList();
  });
  const v = s.verification;
  return el('tr', { role: 'row' },
    cell(null, '', button, s.pinned && ' ', s.pinned && badge('', 'PINNED')),
    cell(null, '', stateBadge(s.state)),
    cell('Age', '', age(s.createTime)),
    cell('Database', 'num', size(s.dbSizeBytes)),
    cell('Stored', 'num', size(s.storedSizeBytes)),
    cell('Keys', 'num', count(s.totalKeys)),
    cell('Revision', 'num', count(s.revision)),
    cell(null, '', plain(s.trigger)),
    cell('On', '', ...s.locations.flatMap((l) => [el('span', { class: 'where' }, l.backend, ' ', stateBadge(l.state)), ' '])),
    cell('Verified', '', ...(v ? [stateBadge(v.state), ` ${plain(v.level)} `, age(v.time)] : ['-'])));
}
