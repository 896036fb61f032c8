// The journal of a cluster: how much would be lost, and to which revisions and times it can be restored.

import { ask } from './asking.js';
import { button, el, setText } from './dom.js';
import { badge, mono, quiet, row, stateBadge, table, when } from './pieces.js';
import { count, plain, seconds, several, stopped, took } from './words.js';

// journalBox is the place for how far the journal is. The window is asked for on demand: that lists the journal on all backends.
export function journalBox(c) {
  const place = el('div', { role: 'status' });
  const show = button('Show what can be restored', {}, () => showWindow(c.name, show, place));
  return el('div', {}, el('ul', { id: 'points' }), el('p', {}, show), place);
}

// showPoints shows how much would be lost and how the last drill has ended, which every answer changes.
export function showPoints(c, list) {
  const all = c.recoveryWindow.recoveryPoints.map((p) => el('li', {}, `If ${p.backend ? `all but backend ${p.backend}` : 'the process'} were lost: `,
    el('b', {}, `the changes of the last ${took(seconds(p.age))}`), p.error ? `. The last upload failed: ${stopped(p.error)}` : '.'));
  const lag = c.recoveryWindow.lagRevisions; // none while etcd is not followed
  if (all.length) all.push(el('li', {}, 'Behind etcd: ', el('b', {}, lag === undefined || lag === null ? 'not known, it is not followed now' : several(Number(lag), 'revision')), '.'));
  const drill = lastDrill(c.recoveryWindow.drill);
  const here = all.length ? all : [el('li', { class: 'quiet' }, ...elsewhere(c.leader))];
  list.replaceChildren(...here, ...(drill ? [drill] : []));
}

// elsewhere says who knows how far the journal is, when the replica that answers does not follow etcd.
const elsewhere = (leader) => (leader ? ['How far the journal is, is known to ', mono(leader), ', which leads.']
  : ['How far the journal is, is not known here: no replica is known to lead.']);

// lastDrill is how the last drill of a revision has ended; null when there was none.
function lastDrill(drill) {
  if (!drill) return null;
  const { verdict } = drill;
  return el('li', {}, 'Last drill: revision ', el('b', {}, count(drill.revision)), ' from ', mono(drill.base), ' ', stateBadge(plain(verdict.state)), ' ',
    when(verdict.time), verdict.error ? `: ${stopped(verdict.error)}` : '.');
}

async function showWindow(cluster, show, place) {
  show.disabled = true;
  place.replaceChildren(el('p', {}, 'Asking…'));
  try {
    const { window, time } = await ask(`/v1/clusters/${encodeURIComponent(cluster)}/recoveryWindow`);
    const unread = window.unread.map((text) => el('p', { class: 'notice attention' }, `Not read: ${stopped(text)}`));
    place.replaceChildren(el('p', {}, 'As of ', when(time), '.'), ...unread, ranges(window), ...begun(window), ...gaps(window), ...held(window),
      ...estimated(window));
    setText(show, 'Ask again what can be restored');
  } catch (e) {
    place.replaceChildren(el('p', { class: 'notice danger' }, stopped(e.message)));
  }
  show.disabled = false;
  if (document.activeElement === document.body) show.focus({ preventScroll: true }); // a button that is disabled loses it
}

function ranges(w) {
  const all = w.timelines.flatMap((t) => t.ranges.map((r) => row(mono(t.name),
    Number(r.restorableFromRevision) ? count(r.restorableFromRevision) : quiet(`no snapshot (${count(r.firstRevision)})`),
    count(r.lastRevision), when(r.lastTime), when(r.completeTime), r.base ? mono(r.base) : '-'))).reverse();
  if (all.length) return table('Recovery window', ['Timeline', 'Restorable from', 'To revision', 'Of', 'Complete to', 'From snapshot'], all);
  return el('p', { class: 'quiet' }, w.unread.length ? 'Nothing was found of the journal where it could be read.' : 'The journal holds nothing yet.');
}

// begun says why timelines began: the journal could not go on in the one before.
const begun = (w) => w.timelines.filter((t) => t.reason)
  .map((t) => el('p', {}, 'Timeline ', mono(t.name), ' began ', when(t.startTime), `: ${stopped(t.reason)}`));

// gaps are what is lost. That nothing is, is only known when all was read.
function gaps(w) {
  if (w.gaps.length) {
    return [table('Lost', ['Lost behind', 'Before', 'From', 'To', 'Why'], w.gaps.map((g) => row(count(g.afterRevision), count(g.beforeRevision),
      when(g.afterTime), when(g.beforeTime), g.reason || '-')))];
  }
  if (w.unread.length) return [el('p', {}, badge('unknown', 'GAPS NOT KNOWN'), ' Not all of the journal was read.')];
  return w.timelines.length ? [el('p', {}, badge('safe', 'NO GAPS'))] : [];
}

const most = 20; // snapshots that are shown

// held are the snapshots by themselves, and whether it was checked that the journal leads to them.
function held(w) {
  if (!w.snapshots.length) return [];
  const rows = w.snapshots.slice(0, most).map(({ name, oldestRevision, revision, createTime, journalProof: proof }) => row(mono(name),
    Number(oldestRevision) ? count(oldestRevision) : quiet('not known'), count(revision), when(createTime),
    proof ? [stateBadge(plain(proof.state)), ' ', when(proof.time)] : quiet('not checked'), (proof && (proof.error || proof.live)) || '-'));
  const more = w.snapshots.length > most ? ` The newest ${most} are shown: snapshotd window -o wide shows all.` : '';
  return [el('p', {}, `Without the journal, a snapshot can be restored to the revisions that it holds.${more}`),
    table('Snapshots of the window', ['Snapshot', 'Holds from', 'To revision', 'Taken', 'The journal leads to it', 'Remarks'], rows)];
}

const estimated = (w) => (w.estimates.length ? [el('p', {}, 'Only estimated, or not known, in a restore from the journal:'),
  el('ul', {}, ...w.estimates.map((text) => el('li', {}, text)))] : []);
