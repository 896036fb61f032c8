// One snapshot: all that is known of it, and all that can be done with it.

import { actions } from './actions.js';
import { ask, snapshots } from './asking.js';
import { toCluster } from './address.js';
import { command, drill, reach, reads, restore, sealed, wholeCopies } from './commands.js';
import { el, keyed } from './dom.js';
import { take } from './listing.js';
import { badge, commandLine, mono, quiet, row, stateBadge, table, terms, when } from './pieces.js';
import { clusterOf, state } from './state.js';
import { count, plain, seconds, size, stopped, took, utc } from './words.js';

const read = new Map(); // by address: the snapshot and when it was read, why it cannot be read now, and when that was asked

const again = 60000; // milliseconds until it is read again, if no event tells of it before

const pause = 10000; // the same, when it could not be read

export function showSnapshot(view, at) {
  const key = `${at.cluster}/${at.snapshot}`;
  const list = state.lists.get(at.cluster);
  const listed = list && list.byName.get(at.snapshot);
  const known = read.get(key) || {};
  if (!known.asking && !(Date.now() - known.asked < (known.problem ? pause : again)) && !state.problem) refresh(view, at, key);
  const s = known.snapshot || listed;
  if (!s) {
    const p = known.problem;
    view.replaceChildren(el('h2', { tabindex: '-1' }, at.snapshot), p
      ? el('p', { class: 'notice danger', role: 'alert' }, stopped(p.message), ' ', el('a', { href: toCluster(at.cluster) }, `All of ${at.cluster}`))
      : el('p', {}, 'Asking…'));
    return;
  }
  const c = clusterOf(at.cluster);
  const past = known.problem && [known.problem.message, known.snapshot ? known.read : list.read];
  const section = (name, more, make) => [name, JSON.stringify([s, more, reach(), state.stale]), make];
  keyed(view, [
    section('head', [...state.roles], () => head(s, c)),
    section('errors', past, () => errors(s, past)),
    section('copies', 0, () => el('section', { 'aria-label': 'Copies' }, el('h3', {}, 'Copies'), copies(s))),
    section('facts', state.service.traceURL, () => el('section', { 'aria-label': 'Facts' }, el('h3', {}, 'Facts'), facts(s))),
    section('verified', 0, () => el('section', { 'aria-label': 'Verifications' }, el('h3', {}, 'Verifications'), verifications(s))),
    section('commands', reads(c), () => el('section', { 'aria-label': 'Commands' }, el('h3', {}, 'Commands'), ...lines(s, c))),
  ]);
}

// refresh reads the snapshot, and shows it if the view is still of it.
async function refresh(view, at, key) {
  const known = { ...read.get(key), asking: true, changed: false };
  read.set(key, known);
  const asked = Date.now();
  const hash = location.hash;
  let next;
  try {
    const { snapshot } = await ask(snapshots(at.cluster, at.snapshot));
    if (!known.changed) take(snapshot);
    next = { snapshot, read: asked };
  } catch (e) {
    next = { snapshot: e.reason === 'SNAPSHOT_NOT_FOUND' ? null : known.snapshot, read: known.read, problem: e };
  }
  read.set(key, { ...next, asked: known.changed ? 0 : Date.now() });
  if (location.hash === hash && state.clusters) showSnapshot(view, at);
}

// reread makes a snapshot be read again: it was changed, perhaps since it was read by the question that is under way.
export function reread(cluster, name) {
  const known = read.get(`${cluster}/${name}`);
  if (known) Object.assign(known, { asked: 0, changed: true });
}

function head(s, c) {
  return el('div', { class: 'bar' }, el('h2', { tabindex: '-1' }, stateBadge(s.state), ' ', mono(s.name), s.pinned && ' ', s.pinned && badge('', 'PINNED')),
    el('div', { class: 'actions' }, ...actions.ofSnapshot(s, c)));
}

// errors are why it is not as it should be. past is why it cannot be read now, and when what is shown was read.
function errors(s, past) {
  const v = s.verification;
  return el('div', {}, past ? el('p', { class: 'notice danger', role: 'alert' },
    `It cannot be read: ${stopped(past[0])} What is shown below is as it was at ${utc(past[1] + state.skew)}.`) : null, s.error ? el('p', { class: 'notice danger' }, s.error) : null,
    v && v.error ? el('p', { class: 'notice danger' }, `Verification: ${v.error}`) : null,
    s.alarms.length ? el('p', { class: 'notice attention' }, `Alarms of etcd are inside: ${s.alarms.join(', ')}. An etcd that is restored refuses writes; restore --disarm leaves them out.`) : null);
}

function copies(s) {
  return table('Copies', ['Backend', 'State', 'Place', 'Size', 'Since', 'Error'], s.locations.map((l) => row(l.backend, stateBadge(l.state),
    mono(l.uri), size(l.sizeBytes), when(l.updateTime), l.error || '-')));
}

function facts(s) {
  const labels = Object.entries(s.labels || {}).sort().map(([k, value]) => el('span', {}, `${k}=${value}`));
  const etcd = s.etcdVersion ? `${s.etcdVersion}${s.storageVersion ? `, storage ${s.storageVersion}` : ''}` : '';
  return terms([
    ['Taken', [when(s.createTime), ` on ${s.node || '-'}, took ${took(seconds(s.duration))}`]],
    ['By', s.schedule ? `schedule ${s.schedule}` : plain(s.trigger)],
    ['Labels', labels.length ? el('span', { class: 'labels' }, ...labels) : quiet('none')],
    ['Revision', count(s.revision)],
    ['Goes back to', Number(s.oldestRevision) ? `revision ${count(s.oldestRevision)}` : ''],
    ['Keys', count(s.totalKeys)],
    ['Database', size(s.dbSizeBytes)],
    ['Stored', `${size(s.storedSizeBytes)}, ${plain(s.compression)}`],
    ['Encrypted for', s.encryptionRecipients.length ? s.encryptionRecipients.map((r) => el('div', { class: 'mono' }, r)) : quiet('nobody: it can be read by everyone who reaches it')],
    ['etcd', etcd],
    ['etcd cluster', s.etcdClusterId ? mono(s.etcdClusterId) : ''],
    ['Member', s.etcdMemberId ? mono(s.etcdMemberId) : ''],
    ['sha256', s.sha256 ? mono(s.sha256) : ''],
    ['sha256 as stored', s.storedSha256 ? mono(s.storedSha256) : ''],
    ['Hash', s.hash ? mono(Number(s.hash).toString(16)) : ''],
    ['Trace', s.traceId ? trace(s.traceId) : ''],
  ]);
}

// trace is the id of the save's trace, and a link to it when the configuration says where traces are shown.
function trace(id) {
  const { traceURL } = state.service;
  return traceURL ? el('a', { class: 'mono', href: traceURL.replace('{trace_id}', id), rel: 'noopener noreferrer' }, id) : mono(id);
}

function verifications(s) {
  const verdicts = [s.verification, ...(s.earlierVerifications || [])].filter(Boolean).map((v) => (same(v, s.proof) ? s.proof : v));
  const all = [...verdicts, verdicts.includes(s.proof) ? null : s.proof, s.journalProof].filter(Boolean);
  if (!all.length) return el('p', { class: 'quiet' }, 'It was never verified.');
  return table('Verifications', ['Level', 'Result', 'When', 'Took', 'Backends', 'HashKV', 'Remarks'], all.map((v) => row(
    v === s.journalProof ? 'JOURNAL' : plain(v.level),
    v === s.proof && v.error ? badge('danger', 'VOID') : stateBadge(v.state), when(v.time), took(seconds(v.duration)), v.backends.join(', ') || '-',
    v.hashKv ? mono(v.hashKv) : '-',
    [v.error, v.live, v.storedOnly ? 'as it is stored alone, without an identity' : '', v.disarmed.length ? `disarmed: ${v.disarmed.join(', ')}` : '']
      .filter(Boolean).join('; ') || '-')));
}

const same = (a, b) => Boolean(b) && a.time === b.time && a.level === b.level;

// lines are the commands that fit it: some need a whole copy, and one that the service can decrypt.
function lines(s, c) {
  const all = [['get', s.name]];
  if (wholeCopies(s).length) {
    all.push(drill(s, c), restore(s.name, s, c));
    if (!sealed(s, c)) all.push(['download', s.name, '--decoded', '--output', `${s.name}.db`]);
  }
  return all.map((args) => commandLine(command(args, s.cluster)));
}
