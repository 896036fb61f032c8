// Showing what was heard, and how old it is.

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

// tick says, every second, how old all is, and whether it is current.
export function tick() {
  const stale = isStale();
  if (stale !== state.stale) {
    state.stale = stale;
    document.documentElement.classList.toggle('stale', stale);
    if (state.overview) showClusters(state.overview);
  }
  for (const t of document.querySelectorAll('[data-age]')) setText(t, span(now() - Number(t.dataset.age)));
  showLink(stale);
  showNotice(stale);
}
