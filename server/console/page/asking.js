// Asking the service: the clusters, and all other calls of the API.

import { isFresh, state } from './state.js';

const timeout = 15000; // milliseconds for an answer that changes nothing
const patience = 13; // seconds, after which the service answers with what it knows by then: before the page gives it up

// Problem is an error as the API gave it, or that there is no answer.
export class Problem extends Error {
  constructor(reason, message, status) {
    super(message);
    this.reason = reason;
    this.status = status || null;
    this.login = ''; // where the person can log in
  }

  // detail is the one of the error's details that has a field.
  detail(field) {
    return ((this.status && this.status.details) || []).find((d) => d[field]);
  }
}

const foreign = (what) => new Problem('', `it answers with ${what}, which is none of its own answers: a proxy between?`);

// problemOf returns the error of a google.rpc.Status.
function problemOf(status, fallback) {
  const reason = (status.details || []).map((d) => d.reason).find(Boolean) || '';
  if (status.code === 4 && !reason) return new Problem('GONE', `it has not answered for ${patience} s`, status);
  return new Problem(reason, status.message || fallback, status);
}

async function refused(resp) {
  try {
    const problem = problemOf(JSON.parse(await resp.text()), `HTTP ${resp.status}`);
    problem.login = resp.headers.get('X-Snapshotd-Login') || '';
    return problem;
  } catch {
    return foreign(`HTTP ${resp.status}`);
  }
}

// options are those of a call. A page of another site cannot send the header: the service refuses changes by a browser without it.
function options(method, body, signal) {
  const headers = method === 'GET' ? {} : { 'X-Snapshotd-Console': '1' };
  if (body) headers['Content-Type'] = 'application/json';
  return { method, headers, body: body && JSON.stringify(body), cache: 'no-store', signal };
}

async function answerOf(path, opts) {
  try {
    const resp = await fetch(path, opts);
    if (!resp.ok) throw await refused(resp);
    return resp;
  } catch (e) {
    if (e instanceof Problem) throw e;
    throw new Problem('GONE', e.name === 'TimeoutError' ? `it has not answered for ${timeout / 1000} s` : 'it cannot be reached');
  }
}

async function read(resp) {
  try {
    return await resp.json();
  } catch (e) {
    if (e instanceof SyntaxError) throw foreign('HTTP 200 and no JSON');
    throw new Problem('GONE', 'its answer broke off');
  }
}

// untraced is the header of a trace that nobody records: what the page asks by itself, each minute, would hide all others.
function untraced() {
  const id = (bytes) => [...crypto.getRandomValues(new Uint8Array(bytes))].map((b) => b.toString(16).padStart(2, '0')).join('');
  return { traceparent: `00-${id(16)}-${id(8)}-00` };
}

// ask reads something.
export const ask = async (path) => read(await answerOf(path, {
  ...options('GET', null, AbortSignal.timeout(timeout)), headers: { ...untraced(), 'Grpc-Timeout': `${patience}S` },
}));

// change calls an operation, which may take its time: a save ends when the last backend has it.
export const change = async (method, path, body) => read(await answerOf(path, options(method, body)));

// logOut ends the session here, and on the replica that answers also for others who have its cookie.
export async function logOut() {
  await answerOf('/console/logout', options('POST'));
  location.replace('/');
}

// lines calls an operation that answers with a stream, and hands on each message. It ends when each returns true.
export async function lines(method, path, body, each, signal) {
  const resp = await answerOf(path, options(method, body, signal));
  const reader = resp.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = '', part = await reader.read(); !part.done; part = await reader.read()) {
    const all = (rest + part.value).split('\n');
    rest = all.pop();
    for (const line of all.filter(Boolean)) {
      const message = JSON.parse(line);
      if (message.error) throw problemOf(message.error, 'the stream broke off');
      if (each(message.result)) {
        await reader.cancel();
        return;
      }
    }
  }
}

// snapshots is the path of a cluster's snapshots, or of one of them.
export function snapshots(cluster, name) {
  const all = `/v1/clusters/${encodeURIComponent(cluster)}/snapshots`;
  return name ? `${all}/${encodeURIComponent(name)}` : all;
}

const most = 3; // how often pages are asked for from the first one on

// anew calls what reads all pages, and again when the token of one has expired: etcd has compacted, or there are other
// clusters.
export async function anew(pages) {
  for (let tries = 1; ; tries++) {
    try {
      return await pages();
    } catch (e) {
      if (e.reason !== 'PAGE_TOKEN_EXPIRED' || tries === most) throw e;
    }
  }
}

// lasted is how long a question takes, by this browser's clock, which may have been set or have slept meanwhile.
const lasted = (asked, pages) => Math.max(0, Math.min(Date.now() - asked, pages * timeout));

// fleet asks how all clusters are, page by page. The time of the first page is the one that belongs to the question.
async function fleet(asked) {
  const path = '/v1/clusters?pageSize=200';
  const answer = await ask(path);
  let pages = 1;
  for (let token = answer.nextPageToken; token; pages++) {
    state.took = Math.max(state.took, lasted(asked, pages)); // the rest is on its way
    const page = await ask(`${path}&pageToken=${encodeURIComponent(token)}`);
    answer.clusters.push(...page.clusters);
    token = page.nextPageToken;
  }
  return { answer, took: lasted(asked, pages) };
}

const whoami = () => ask('/v1/whoami');
const lasting = 60000; // milliseconds, after which the caller may have other roles

let introduced = 0; // when the service was asked who the caller is; 0 when it has not said it

// questions asks all that the overview shows.
function questions() {
  const asked = Date.now();
  const known = Math.abs(asked - introduced) < lasting;
  const who = known ? state.caller : whoami();
  return { asked, known, answers: Promise.all([anew(() => fleet(asked)), ask('/console/service'), who]) };
}

// The first questions are on their way before the modules that show the answers are here.
let first = document.hidden ? null : questions();
if (first) first.answers.catch(() => {}); // glance says it

// glance asks how the clusters are.
export async function glance() {
  const { asked, known, answers } = first && isFresh(first.asked) ? first : questions();
  first = null;
  try {
    const [{ answer, took }, service, who] = await answers;
    const skew = Date.parse(answer.time) - asked;
    if (Number.isNaN(skew) || !Array.isArray(answer.clusters)) throw foreign('JSON that is no list of clusters');
    const caller = known && answer.clusters.some((c) => !state.roles.has(c.name)) ? await whoami() : who; // a cluster is new
    if (caller !== state.caller) introduced = asked;
    Object.assign(state, { clusters: answer.clusters, service, caller, asked, took, skew, problem: null });
    state.roles = new Map(caller.clusters.map((c) => [c.cluster, c.role]));
    state.firstVersion ||= service.version;
    for (const c of answer.clusters) {
      if (c.verdict !== 'VERDICT_UNKNOWN') state.known.set(c.name, { cluster: c, at: answer.time });
    }
  } catch (e) {
    state.problem = e;
    introduced = 0; // the next service may know the caller otherwise
  }
}
