// Events of the service: each one asks for a refresh, and progress is shown at once.

import { soon } from './looking.js';
import { showMoving } from './moving.js';
import { state } from './state.js';

let following = null;

// follow begins to follow the events while the page is visible.
export async function follow() {
  if (following) return;
  for (let wait = 1000; !document.hidden; wait = Math.min(2 * wait, 15000)) {
    following = new AbortController();
    try {
      const resp = await fetch('/v1/events', { cache: 'no-store', signal: following.signal });
      if (resp.ok) await readLines(resp.body, happened);
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

async function readLines(body, each) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = '', part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split('\n');
    rest = lines.pop();
    lines.filter(Boolean).forEach((line) => each(JSON.parse(line)));
  }
}

// tells is true of the transfer that a save waits for: etcd's, and at the end those to the backends.
function tells(event) {
  if (!event.phase) return true; // of an older replica
  return (event.phase === 'PHASE_STORING') === Boolean(event.backend);
}

function happened(message) {
  const event = message.result;
  if (!event) return;
  if (!state.live) {
    state.live = true;
    soon(); // for what has happened before
  }
  if (event.type === 'TYPE_POSITION') return;
  if (event.type === 'TYPE_PROGRESS') {
    if (!tells(event)) return;
    state.moving.set(event.cluster, { event, at: Date.now() });
    showMoving(event.cluster);
    return;
  }
  if (event.type === 'TYPE_FINISHED') state.moving.delete(event.cluster);
  soon();
}
