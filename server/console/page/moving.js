// The save that is under way, wherever its cluster is shown.

import { el } from './dom.js';
import { age, badge, mono } from './pieces.js';
import { clusterOf, isFresh, state } from './state.js';
import { size } from './words.js';

// movingBox is the place for it.
export const movingBox = (name) => el('div', { class: 'saving', 'data-cluster': name, hidden: true });

// note keeps an event of progress.
export function note(event) {
  const save = state.moving.get(event.cluster);
  const same = save && save.name === event.name;
  const backends = same ? save.backends : new Map();
  backends.set(event.backend, event);
  state.moving.set(event.cluster, { name: event.name, phase: event.phase, backends, at: Date.now() });
}

// end takes out how far a backend is that is done.
export function end(event) {
  const save = state.moving.get(event.cluster);
  if (!save || save.name !== event.name || !save.backends.delete(event.backend)) return;
  save.at = Date.now();
  showMoving(event.cluster);
}

export function showMoving(name) {
  const cluster = clusterOf(name);
  for (const box of document.querySelectorAll('.saving')) {
    if (box.dataset.cluster === name) fill(box, name, cluster && cluster.saving, cluster && cluster.progress);
  }
}

function fill(box, name, saving, progress) {
  const save = current(name, saving);
  box.hidden = (!save && !saving) || state.stale;
  if (box.hidden) return;
  if (save && save.phase === 'PHASE_WAITING' && !saving) {
    box.replaceChildren(badge('', 'WAITING'), el('span', {}, 'for saves of other clusters'));
    return;
  }
  const bars = save ? [...save.backends.values()].map(ofEvent) : ofAnswer(progress);
  box.replaceChildren(badge('', 'SAVING'), mono(save ? save.name : saving.name),
    saving ? el('span', {}, 'begun ', age(saving.createTime), ' ago', saving.node ? ` on ${saving.node}` : '') : '', ...bars.flatMap(bar));
}

// current is the save as its events have shown it; it can end without an event.
function current(name, saving) {
  const save = state.moving.get(name);
  return save && (isFresh(save.at) || (saving && saving.name === save.name)) ? save : null;
}

const doing = { PHASE_INSPECTING: ', inspecting', PHASE_COMPRESSING: ', compressing' };

const ofEvent = (e) => ({
  what: e.backend ? `to ${e.backend}` : `from etcd${doing[e.phase] || ''}`, done: Number(e.doneBytes), total: Number(e.totalBytes),
});

// ofAnswer is for a page that was opened during the save, until the next event.
function ofAnswer(p) {
  if (!p) return [];
  return [{ what: 'from etcd', done: Number(p.readBytes), total: Number(p.totalBytes) },
    ...Object.entries(p.writtenBytes || {}).map(([backend, n]) => ({ what: `to ${backend}`, done: Number(n), total: 0 }))];
}

function bar({ what, done, total }) {
  const known = total > 0;
  const text = `${size(done)}${known ? ` of ${size(total)}` : ''} ${what}`;
  return [el('span', { class: 'far' }, el('progress', { ...(known ? { max: total, value: Math.min(done, total) } : {}), 'aria-label': what }), ' ', text)];
}
