// Showing the last answer in the view that the address names, and its age.

import { place } from './address.js';
import { Problem } from './asking.js';
import { $, setText } from './dom.js';
import { showLink, showNotice } from './notice.js';
import { showOverview } from './overview.js';
import { dueIn } from './pieces.js';
import { clusterOf, isStale, now, state } from './state.js';
import { plain, span } from './words.js';

// The views. The modules of the first one are here; those of the others may arrive later, so that nobody waits for them.
const views = { overview: showOverview };
const later = {
  cluster: async () => (await import('./cluster.js')).showCluster,
  snapshot: async () => (await import('./snapshot.js')).showSnapshot,
};

const arriving = new Set(); // the views whose modules are on their way

let shown = null; // the address that the view was made for

export function show() {
  if (state.clusters) {
    setText($('version'), state.service.version);
    setText($('caller'), callerText());
    $('logout').hidden = !state.service.session;
    showView();
  }
  tick();
}

function callerText() {
  const { kind, name } = state.caller;
  const roles = [...new Set(state.roles.values())].map((r) => plain(r).toLowerCase());
  const who = kind === 'anyone' ? 'no access rules' : name || kind;
  return roles.length ? `${who}: ${roles.join(', ')}` : who;
}

// bring gets the modules of a view, and shows it.
async function bring(view) {
  if (arriving.has(view)) return;
  arriving.add(view);
  try {
    views[view] = await later[view]();
    show();
  } catch (e) { // the next refresh tries again
    state.problem = new Problem('', `a part of this page has not arrived, or is wrong; load the page again: ${e.message}`);
    tick();
  }
  arriving.delete(view);
}

// showView updates the view, or begins another one when the address has changed.
function showView() {
  const at = place();
  if (!views[at.view]) {
    bring(at.view);
    return;
  }
  const key = [at.view, at.cluster, at.snapshot].join('\n');
  const view = $('view');
  const moved = shown !== null && shown !== key;
  if (shown !== key) view.replaceChildren();
  shown = key;
  trail(at);
  if (at.cluster && !clusterOf(at.cluster)) {
    view.replaceChildren($('absent').content.cloneNode(true));
    return;
  }
  views[at.view](view, at);
  if (!moved) return;
  scrollTo(0, 0);
  const heading = view.querySelector('h2');
  if (heading) heading.focus(); // so that a screen reader tells where it is
}

function trail(at) {
  $('trail').hidden = at.view === 'overview';
  $('trail-cluster').hidden = at.view !== 'snapshot';
  if (at.view === 'snapshot') {
    $('trail-cluster').firstElementChild.setAttribute('href', `#/clusters/${encodeURIComponent(at.cluster)}`);
    setText($('trail-cluster').firstElementChild, at.cluster);
  }
}

// tick shows, every second, how old the facts are and whether they are current: first of all, in case the rest fails.
export function tick() {
  const stale = isStale();
  showLink(stale);
  showNotice(stale);
  for (const t of document.querySelectorAll('[data-age]')) setText(t, span(now() - Number(t.dataset.age)));
  for (const t of document.querySelectorAll('[data-due]')) setText(t, dueIn(Number(t.dataset.due)));
  if (stale === state.stale) return;
  state.stale = stale;
  document.documentElement.classList.toggle('stale', stale);
  if (state.clusters) showView();
}
