// Showing the last answer, and its age.

import { showClusters } from './clusters.js';
import { $, setText } from './dom.js';
import { showFilters, showList } from './list.js';
import { showLink, showNotice } from './notice.js';
import { isStale, now, state } from './state.js';
import { span } from './words.js';

export function show() {
  if (state.overview) {
    $('version').textContent = state.overview.version;
    showClusters(state.overview);
    showFilters(state.overview);
    showList();
  }
  tick();
}

// tick shows, every second, how old the facts are and whether they are current: first of all, in case the rest fails.
export function tick() {
  const stale = isStale();
  showLink(stale);
  showNotice(stale);
  for (const t of document.querySelectorAll('[data-age]')) setText(t, span(now() - Number(t.dataset.age)));
  if (stale === state.stale) return;
  state.stale = stale;
  document.documentElement.classList.toggle('stale', stale);
  if (state.overview) showClusters(state.overview);
}
