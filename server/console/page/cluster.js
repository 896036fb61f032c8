// One cluster: its verdict, its snapshots over time, its backends and schedules, and the list.

import { actions } from './actions.js';
import { choose, place, remember } from './address.js';
import { lineChart, timeline } from './charts.js';
import { command, drill, reach, reads, restore, wholeCopies } from './commands.js';
import { el, keyed } from './dom.js';
import { journalBox, showPoints } from './journal.js';
import { listOf } from './listing.js';
import { movingBox, showMoving } from './moving.js';
import { atAGlance, findings, lastKnown } from './overview.js';
import { age, badge, commandLine, due, foldable, mono, quiet, retell, row, stateBadge, steady, table, verdictBadge, when } from './pieces.js';
import { clusterOf, now, state } from './state.js';
import { makeList, showList } from './snapshots.js';
import { seconds, several, size, took, utc } from './words.js';

const day = 86400000;
const ranges = { '24h': day, '7d': 7 * day, '30d': 30 * day, all: 0 };

export function showCluster(view, at) {
  const c = clusterOf(at.cluster);
  const list = listOf(c.name, () => changed(at.cluster));
  const known = c.verdict !== 'VERDICT_UNKNOWN';
  const range = ranges[at.choices.get('range')] === undefined ? '7d' : at.choices.get('range');
  const common = [state.stale, reach()];
  const pictures = [list.version, range, view.clientWidth, Math.floor(now() / 60000), c.schedules.map((s) => [s.nextTime, s.missed])];
  const section = (key, facts, make) => [key, JSON.stringify([facts, common]), make];
  const fold = (key, facts, title, make) => section(key, facts, () => el('section', { 'aria-label': title }, el('h3', {}, title), make()));
  keyed(view, [
    section('head', [c.verdict, [...state.roles]], () => head(c)),
    section('findings', steady(c.findings), () => el('section', { 'aria-label': 'Findings' }, findings(c))),
    section('saving', 'saving', () => movingBox(c.name)),
    section('facts', steady(c), () => (known ? atAGlance(c) : lastKnown(c.name) || el('p', {}))),
    ['range', `${at.cluster} ${at.link}`, () => rangeOf(c, range)],
    section('pictures', pictures, () => picturesOf(list, c, range, view.clientWidth)),
    fold('backends', [c.verdict, c.backends, Boolean(c.lastSave), c.examined], 'Backends', () => backends(c)),
    ...(c.recoveryWindow ? [fold('journal', at.link, 'Journal', () => journalBox(c))] : []),
    ...(c.schedules.length ? [fold('schedules', c.schedules, 'Schedules', () => schedules(c))] : []),
    ...(c.retention.length ? [fold('retention', c.retention, 'Retention', () => retention(c))] : []),
    ['list', `${at.cluster} ${at.link}`, () => makeList(at, () => changed(at.cluster))],
    section('commands', [c.newestReady, reads(c), at.link], () => commands(c, at)),
  ]);
  showList(view.querySelector('#snapshots'), list);
  retell(view, c);
  showMoving(c.name);
  if (c.recoveryWindow) showPoints(c, view.querySelector('#points'));
}

// changed shows the cluster again, if the view is still of it.
function changed(cluster) {
  const at = place();
  const view = document.getElementById('view');
  if (at.view === 'cluster' && at.cluster === cluster && clusterOf(cluster) && view.querySelector('#snapshots')) showCluster(view, at);
}

function head(c) {
  return el('div', { class: 'bar' }, el('h2', { tabindex: '-1' }, verdictBadge(c.verdict, true), ' ', el('span', { class: 'name' }, c.name)),
    el('div', { class: 'actions' }, ...actions.ofCluster(c)));
}

// rangeOf is the choice of how much time the pictures show.
function rangeOf(c, range) {
  const choice = el('select', { id: 'range' },
    ...Object.entries({ '24h': 'a day', '7d': 'a week', '30d': 'a month', all: 'all' })
      .map(([value, text]) => el('option', { value, selected: value === range }, text)));
  choice.addEventListener('change', () => {
    choose('range', choice.value);
    changed(c.name);
  });
  return el('div', { class: 'bar' }, el('h3', {}, 'Over time'), el('label', {}, 'Shown ', choice));
}

// picturesOf is the snapshots over time: when they were taken, and how large and slow they were. Before the list was
// read, there is nothing to be counted.
function picturesOf(list, c, range, width) {
  if (!list.sorted.length && !list.complete) {
    const why = list.problem ? 'Not known: the list of the snapshots cannot be read.' : 'Asking for the snapshots…';
    return el('section', { 'aria-label': 'Over time' }, el('p', { class: 'quiet' }, why));
  }
  const from = ranges[range] ? now() - ranges[range] : 0;
  const all = list.sorted.filter((s) => Date.parse(s.createTime) >= from).reverse();
  const whole = all.filter((s) => s.state === 'STATE_READY' || s.state === 'STATE_PARTIAL');
  const points = (of) => whole.map((s) => ({ at: Date.parse(s.createTime), value: of(s) })).filter((p) => p.value > 0);
  const half = width > 900 ? Math.floor(width / 2) - 12 : width;
  return el('section', { 'aria-label': 'Over time' }, timeline(all, c.schedules, from, width), el('div', { class: 'columns' },
    lineChart('Size', [['database', points((s) => Number(s.dbSizeBytes))], ['stored', points((s) => Number(s.storedSizeBytes))]], size, half),
    lineChart('Duration of the save', [['duration', points((s) => seconds(s.duration))]], took, half)));
}

const known = (n, text) => (Number(n) < 0 ? quiet('not known') : text(n));

function backends(c) {
  return table('Backends', ['Backend', 'Snapshots', 'Size', 'Free', 'Last save', 'Newest whole copy', 'Waiting', 'URL'],
    c.backends.map((b) => row(b.name, known(b.snapshots, String), known(b.sizeBytes, size), known(b.freeBytes, size),
      [...lastSave(c, b), b.lastError ? el('div', {}, b.lastError) : null], newestOn(c, b),
      Number(b.waiting) ? [b.waiting, b.nextRepairTime ? el('div', { class: 'quiet' }, 'next try ', due(b.nextRepairTime)) : null] : '-',
      mono(b.url))));
}

// lastSave is how the last save ended on a backend. Without the catalog it is not known.
function lastSave(c, b) {
  if (c.verdict === 'VERDICT_UNKNOWN') return [quiet('not known')];
  if (!c.lastSave) return ['-'];
  if (b.lastState === 'STATE_UNSPECIFIED') return [quiet('not to go there')];
  const damaged = b.lastState === 'STATE_READY' && b.lastError;
  return damaged ? [stateBadge(b.lastState), ' ', badge('danger', 'DAMAGED SINCE')] : [stateBadge(b.lastState)];
}

// newestOn is the newest snapshot that a backend holds whole. It may be older than those that were examined.
function newestOn(c, b) {
  if (b.newest) return mono(b.newest);
  if (c.verdict === 'VERDICT_UNKNOWN') return quiet('not known');
  return c.complete ? badge('danger', 'NONE') : quiet(`none of the newest ${c.examined}`);
}

function schedules(c) {
  return table('Schedules', ['Schedule', 'Cron', 'Next run', 'Last run', 'Result', 'Snapshot'],
    c.schedules.map((s) => row(s.name, [mono(s.cron), ` ${s.timeZone || 'UTC'}`],
      [s.overdue ? badge('danger', 'OVERDUE') : null, ' ', due(s.nextTime), el('div', { class: 'quiet' }, s.nextTime ? utc(Date.parse(s.nextTime)) : '')],
      s.lastTime ? when(s.lastTime) : '-', s.lastSnapshot ? stateBadge(s.lastState) : '-', s.lastSnapshot ? mono(s.lastSnapshot) : '-')));
}

function retention(c) {
  return el('div', {}, table('Retention', ['Backend', 'Goes now', 'Frees', 'Goes after the next save', 'Frees', 'First of them'],
    c.retention.map((r) => row(r.backend, ...(r.rules ? [several(Number(r.removesNow), 'snapshot'), size(r.freesNowBytes),
      several(Number(r.removesNext), 'snapshot'), size(r.freesNextBytes), r.names.length ? mono(r.names[0]) : '-']
      : [quiet('no rules: all stay'), '-', '-', '-', '-'])))),
  el('p', { class: 'quiet' }, 'The leader removes after each reconcile what goes now. The next save makes others old.'));
}

function commands(c, at) {
  const parts = [];
  const add = (what, args) => parts.push(el('p', { class: 'what' }, what), commandLine(command(args, c.name)));
  add('Take a snapshot now', ['save']);
  if (c.newestReady) add('Prove that the newest one can be restored, in a throw-away etcd', drill(c.newestReady, c));
  add('Hold the catalog against the backends, and copy what is missing', ['reconcile', '--repair']);
  add('Say what retention would remove, and why the others stay', ['prune', '--dry-run']);
  if (c.newestReady && wholeCopies(c.newestReady).length) {
    add('Say how the newest one would be restored, to the directory DIR; without --dry-run it is', restore('latest', c.newestReady, c));
  }
  return foldable(`${c.name}/commands`, { open: at.opened.has('commands') }, el('summary', {}, 'Commands'), el('div', { class: 'commands' }, ...parts),
    (now) => remember('commands', now));
}
