// The save that is under way, on its cluster's card.

import { el } from './dom.js';
import { age, badge, mono } from './pieces.js';
import { isFresh, state } from './state.js';
import { size } from './words.js';

// movingBox is the place for it on a new card.
export const movingBox = (name) => el('div', { class: 'saving', 'data-cluster': name, hidden: true });

export function showMoving(name) {
  const box = [...document.querySelectorAll('.saving')].find((e) => e.dataset.cluster === name);
  const cluster = state.overview && state.overview.clusters.find((c) => c.name === name);
  if (!box || !cluster) return;
  const saving = cluster.saving;
  const event = progress(name, saving);
  box.hidden = (!event && !saving) || state.stale;
  if (box.hidden) return;
  if (event && event.phase === 'PHASE_WAITING' && !saving) {
    box.replaceChildren(badge('', 'WAITING'), el('span', {}, 'for saves of other clusters'));
    return;
  }
  box.replaceChildren(badge('', 'SAVING'), mono(event ? event.name : saving.name),
    ...(saving ? [el('span', {}, 'begun ', age(saving.created), ' ago')] : []), ...(event ? bar(event) : []));
}

// progress is the event that tells of it; a save can end without an event.
function progress(name, saving) {
  const { event, at } = state.moving.get(name) || {};
  return event && (isFresh(at) || (saving && saving.name === event.name)) ? event : null;
}

const doing = { PHASE_INSPECTING: ', inspecting', PHASE_COMPRESSING: ', compressing' };

function bar(event) {
  const what = event.backend ? `to ${event.backend}` : `from etcd${doing[event.phase] || ''}`;
  const known = Number(event.totalBytes) > 0;
  const far = known ? { max: event.totalBytes, value: event.doneBytes } : {};
  const text = `${size(event.doneBytes)}${known ? ` of ${size(event.totalBytes)}` : ''} ${what}`;
  return [el('progress', { ...far, 'aria-label': what }), el('span', {}, text)];
}
