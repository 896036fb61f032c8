// Asking the service: the overview, and the list that is chosen.

import { $ } from './dom.js';
import { state } from './state.js';

const timeout = 15000; // milliseconds for one answer
const relist = 60000; // the list is asked for after this time even without a known change: the overview covers only a part

export class Problem extends Error {
  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }
}

const foreign = (what) => new Problem('', `it answers with ${what}, which is none of its own answers: a proxy between?`);

async function problemOf(resp) {
  try {
    const status = JSON.parse(await resp.text());
    const reason = (status.details || []).map((d) => d.reason).find(Boolean) || '';
    return new Problem(reason, status.message || `HTTP ${resp.status}`);
  } catch {
    return foreign(`HTTP ${resp.status}`);
  }
}

async function ask(path) {
  try {
    const resp = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(timeout) });
    if (!resp.ok) throw await problemOf(resp);
    return await resp.json();
  } catch (e) {
    if (e instanceof Problem) throw e;
    if (e instanceof SyntaxError) throw foreign('HTTP 200 and no JSON');
    throw new Problem('GONE', e.name === 'TimeoutError' ? `it has not answered for ${timeout / 1000} s` : 'it cannot be reached');
  }
}

// glance asks for the overview.
export async function glance() {
  const asked = Date.now();
  try {
    const overview = await ask('/console/overview');
    const skew = Date.parse(overview.time) - asked;
    if (Number.isNaN(skew) || !Array.isArray(overview.clusters)) throw foreign('JSON that is no overview');
    Object.assign(state, { overview, asked, skew, problem: null });
    state.firstVersion ||= overview.version;
    for (const c of overview.clusters) {
      if (c.verdict !== 'unknown') state.known.set(c.name, { cluster: c, at: overview.time });
    }
  } catch (e) {
    state.problem = e;
  }
}

// list asks for the list unless it is known to be unchanged: a page that is left open must not fill the service's log.
export async function list() {
  const cluster = chosen();
  const { mark, verdict, findings: why } = state.overview.clusters.find((c) => c.name === cluster);
  const filter = chosenFilter();
  const asked = Date.now();
  const same = state.listed && state.listed.cluster === cluster && state.listed.filter === filter;
  if (verdict === 'unknown') {
    state.listProblem = new Problem('', why[0].text);
    if (!same) state.listed = null;
    return;
  }
  if (same && !state.listProblem && state.listed.mark === mark && asked - state.listed.asked < relist) return;
  try {
    const answer = await ask(`/v1/clusters/${encodeURIComponent(cluster)}/snapshots?${filter}`);
    state.listed = { cluster, asked, mark, filter, snapshots: answer.snapshots, more: answer.nextPageToken !== '' };
    state.listProblem = null;
  } catch (e) {
    state.listProblem = e;
    if (!same) state.listed = null;
  }
}

function chosen() {
  const names = state.overview.clusters.map((c) => c.name);
  return names.includes($('cluster').value) ? $('cluster').value : names[0];
}

function chosenFilter() {
  const query = new URLSearchParams({ pageSize: state.rows });
  if ($('state').value) query.append('states', $('state').value);
  const until = new Date(`${$('until').value}Z`);
  const isTime = !Number.isNaN(until.getTime()); // false when it is empty, or a year of five digits, before which all was taken
  if (isTime) query.append('createTimeUntil', until.toISOString());
  return String(query);
}
