// Events of the service: each one brings its snapshot and asks for a refresh, and progress is shown at once.

import { lines } from './asking.js';
import { forget, take } from './listing.js';
import { soon } from './looking.js';
import { end, note, showMoving } from './moving.js';
import { reread } from './snapshot.js';
import { state } from './state.js';

let following = null;

// follow begins to follow the events while the page is visible.
export async function follow() {
  if (following) return;
  for (let wait = 1000; !document.hidden; wait = Math.min(2 * wait, 15000)) {
    following = new AbortController();
    try {
      await lines('GET', '/v1/events', null, happened, following.signal);
    } catch {
      // the next refresh shows the outcome
    }
    if (state.live) wait = 500;
    state.live = false;
    state.moving.clear();
    if (!document.hidden) soon(); // to know whether the service is still there
    await new Promise((done) => { setTimeout(done, wait); });
  }
  following = null;
}

// unfollow ends the stream of events.
export function unfollow() {
  if (following) following.abort();
}

function happened(event) {
  if (!event) return;
  if (!state.live) {
    state.live = true;
    forget(); // events were missed
    soon();
  }
  if (event.type === 'TYPE_POSITION') return;
  if (event.type === 'TYPE_PROGRESS') {
    note(event);
    showMoving(event.cluster);
    return;
  }
  if (event.type === 'TYPE_FINISHED') state.moving.delete(event.cluster);
  if (event.type === 'TYPE_LOCATION_DONE') end(event);
  if (event.snapshot) take(event.snapshot);
  reread(event.cluster, event.name);
  soon();
}
