// The journal of a cluster: how much would be lost, and to which revisions and times it can be restored.

import { ask } from './asking.js';
import { el, button } from './dom.js';
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
  if (all.length) all.push(el('li', {}, 'Behind etcd: ', el('b', {}, several(Number(c.recoveryWindow.lagRevisions), 'revision')), '.'));
  const drill = lastDrill(c.recoveryWindow.drill);
  list.replaceChildren(...(all.length ? all : [el('li', { class: 'quiet' }, 'Another replica follows the cluster, and knows how far its journal is.')]), ...(drill ? [drill] : []));
}

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
    const { window } = await ask(`/v1/clusters/${encodeURIComponent(cluster)}/recoveryWindow`);
    place.replaceChildren(ranges(window), gaps(window), proofs(window), ...window.unread.map((text) => el('p', { class: 'notice attention' }, stopped(text))));
  } catch (e) {
    place.replaceChildren(el('p', { class: 'notice danger' }, stopped(e.message)));
  }
  show.disabled = false;
}

function ranges(w) {
  const all = w.timelines.flatMap((t) => t.ranges.map((r) => row(mono(t.name),
    Number(r.restorableFromRevision) ? count(r.restorableFromRevision) : quiet(`no snapshot (${count(r.firstRevision)})`),
    count(r.lastRevision), when(r.lastTime), when(r.completeTime), r.base ? mono(r.base) : '-'))).reverse();
  return all.length ? table('Recovery window', ['Timeline', 'Restorable from', 'To revision', 'Of', 'Complete to', 'From snapshot'], all)
    : el('p', { class: 'quiet' }, 'The journal holds nothing yet.');
}

function gaps(w) {
  if (!w.gaps.length) return el('p', {}, badge('safe', 'NO GAPS'));
  return table('Lost', ['Lost behind', 'Before', 'From', 'To', 'Why'], w.gaps.map((g) => row(count(g.afterRevision), count(g.beforeRevision),
    when(g.afterTime), when(g.beforeTime), g.reason || '-')));
}

// proofs are the snapshots to which it was checked that the journal leads.
function proofs(w) {
  const all = w.snapshots.filter((s) => s.journalProof);
  if (!all.length) return el('p', { class: 'quiet' }, 'It was never checked that the journal leads from one snapshot to the next.');
  return table('Checked', ['Snapshot', 'Result', 'When', 'Remarks'], all.slice(0, 20).map((s) => row(mono(s.name), stateBadge(plain(s.journalProof.state)),
    when(s.journalProof.time), s.journalProof.error || s.journalProof.live || '-')));
}
