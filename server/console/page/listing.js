// The snapshots of a cluster: all that the catalog has, asked for page by page, kept current by events, and searched here.

import { anew, ask, snapshots } from './asking.js';
import { clusterOf, state } from './state.js';
import { plain } from './words.js';

const first = 100; // snapshots of the first answer, so that something is soon to be seen
const page = 1000; // of the others
const again = 60000; // milliseconds, after which the newest page is asked for anew: labels and verdicts change without an event

const pause = 10000; // milliseconds after a list that could not be read

const order = (a, b) => (a.createTime === b.createTime ? (a.name < b.name ? -1 : 1) : (times(b) - times(a)));
const times = (s) => Date.parse(s.createTime);

// listOf returns what is known of a cluster's snapshots, and asks for more when it is time to; changed is called after each answer.
export function listOf(cluster, changed) {
  let list = state.lists.get(cluster);
  if (!list) {
    list = {
      cluster, byName: new Map(), sorted: [], complete: false, problem: null, asked: 0, read: 0, asking: false, current: false, version: 0,
      seen: null, changed: new Set(),
    };
    state.lists.set(cluster, list);
  }
  const c = clusterOf(cluster);
  const wait = list.problem ? pause : list.current ? again : 0;
  if (!list.asking && Date.now() - list.asked >= wait && c && !state.problem) refresh(list, changed);
  return list;
}

// forget makes each list be asked for again, from the beginning; what is shown stays until then.
export function forget() {
  for (const list of state.lists.values()) list.current = false;
}

async function refresh(list, changed) {
  list.asking = true;
  list.asked = Date.now();
  try {
    if (!list.byName.size) await fetchPage(list, first, '', changed); // and then all of them
    const whole = !list.current;
    list.current = true; // an event that comes meanwhile asks for nothing
    const rest = await anew(async () => {
      list.seen = new Set();
      let token = '';
      do {
        token = await fetchPage(list, page, token, changed);
      } while (token && whole);
      return token;
    });
    if (!rest) keepOnly(list);
    list.complete ||= !rest;
    list.read = list.asked;
    list.problem = null;
  } catch (e) {
    list.problem = e;
    list.current = false;
  }
  list.asking = false;
  list.seen = null;
  sort(list);
  changed();
}

// fetchPage takes one page, and returns the token of the next one. What a page does not show between its ends is gone. What
// has changed since the page was asked for is newer than the page.
async function fetchPage(list, size, token, changed) {
  const query = new URLSearchParams({ pageSize: size, ...(token ? { pageToken: token } : {}) });
  list.changed.clear();
  const answer = await ask(`${snapshots(list.cluster)}?${query}`);
  list.read ||= list.asked;
  for (const s of answer.snapshots) {
    if (!list.changed.has(s.name)) list.byName.set(s.name, s);
    if (list.seen) list.seen.add(s.name);
  }
  list.unreadable = answer.unreadable.length;
  if (list.seen && !token) dropAbsent(list, answer.snapshots);
  sort(list);
  changed();
  return answer.nextPageToken;
}

function dropAbsent(list, shown) {
  if (!shown.length) return;
  const oldest = times(shown[shown.length - 1]);
  for (const s of list.byName.values()) {
    if (times(s) > oldest && !list.seen.has(s.name)) list.byName.delete(s.name);
  }
}

function keepOnly(list) {
  for (const name of list.byName.keys()) {
    if (!list.seen.has(name)) list.byName.delete(name);
  }
}

function sort(list) {
  list.sorted = [...list.byName.values()].sort(order);
  list.version++;
}

// take takes a snapshot as an event or an answer has it. One without any location is gone.
export function take(snapshot) {
  const list = state.lists.get(snapshot.cluster);
  if (!list) return;
  list.changed.add(snapshot.name);
  if (list.seen) list.seen.add(snapshot.name); // the pages that are being read may not have it
  if (snapshot.locations.length || snapshot.state === 'STATE_SAVING' || snapshot.state === 'STATE_FAILED') list.byName.set(snapshot.name, snapshot);
  else list.byName.delete(snapshot.name);
  sort(list);
}

// drop takes a snapshot out that was deleted.
export function drop(cluster, name) {
  const list = state.lists.get(cluster);
  if (!list) return;
  list.changed.add(name);
  if (list.byName.delete(name)) sort(list);
}

// Searching

const texts = new WeakMap();

// text is all by which a snapshot is found.
function text(s) {
  if (!texts.has(s)) {
    const labels = Object.entries(s.labels || {}).map(([k, v]) => `${k}=${v}`);
    texts.set(s, [s.name, ...labels, s.schedule, plain(s.trigger), s.node, ...s.locations.map((l) => l.backend)].join('\n').toLowerCase());
  }
  return texts.get(s);
}

// search returns the snapshots of a list that have all words, and the chosen state, schedule and time.
export function search(list, { words = '', state: wanted = '', schedule = '', until = '' }) {
  const all = words.toLowerCase().split(/\s+/).filter(Boolean);
  const before = Date.parse(`${until}Z`);
  return list.sorted.filter((s) => (!wanted || s.state === wanted) && (!schedule || scheduleOf(s) === schedule) &&
    (Number.isNaN(before) || times(s) < before) && all.every((w) => text(s).includes(w)));
}

// scheduleOf is the schedule that took a snapshot; those of older versions have it in a label alone.
export const scheduleOf = (s) => s.schedule || (s.trigger === 'TRIGGER_SCHEDULED' ? (s.labels || {}).schedule : '') || '';
