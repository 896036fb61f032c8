// One snapshot: all that is known of it, and all that can be done with it.

import { actions } from './actions.js';
import { ask, snapshots } from './asking.js';
import { toCluster } from './address.js';
import { command, drill, reach, reads, restore, sealed, wholeCopies } from './commands.js';
import { el, keyed } from './dom.js';
import { take } from './listing.js';
import { badge, commandLine, mono, quiet, row, stateBadge, table, terms, when } from './pieces.js';
import { clusterOf, state } from './state.js';
import { count, plain, seconds, size, stopped, took } from './words.js';

const read = new Map(); // by address: the snapshot, or why it cannot be read, and when that was asked

const again = 60000; // milliseconds until it is read again, if no event tells of it before

const pause = 10000; // the same, when it could not be read

export function showSnapshot(view, at) {
  const key = `${at.cluster}/${at.snapshot}`;
  const listed = state.lists.get(at.cluster) && state.lists.get(at.cluster).byName.get(at.snapshot);
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
  const section = (name, more, make) => [name, JSON.stringify([s, more, reach(), state.stale]), make];
  keyed(view, [
    section('head', [...state.roles], () => head(s, c)),
    section('errors', 0, () => errors(s)),
    section('copies', 0, () => el('section', { 'aria-label': 'Copies' }, el('h3', {}, 'Copies'), copies(s))),
    section('facts', state.service.traceURL, () => el('section', { 'aria-label': 'Facts' }, el('h3', {}, 'Facts'), facts(s))),
    section('verified', 0, () => el('section', { 'aria-label': 'Verifications' }, el('h3', {}, 'Verifications'), verifications(s))),
    section('commands', reads(c), () => el('section', { 'aria-label': 'Commands' }, el('h3', {}, 'Commands'), ...lines(s, c))),
  ]);
}

// refresh reads the snapshot, and shows it if the view is still of it.
async function refresh(view, at, key) {
  const known = read.get(key) || {};
  read.set(key, { ...known, asking: true });
  const hash = location.hash;
  let next;
  try {
    const { snapshot } = await ask(snapshots(at.cluster, at.snapshot));
    take(snapshot);
    next = { snapshot, asked: Date.now() };
  } catch (e) {
    next = { snapshot: e.reason === 'SNAPSHOT_NOT_FOUND' ? null : known.snapshot, problem: e, asked: Date.now() };
  }
  read.set(key, next);
  if (location.hash === hash && state.clusters) showSnapshot(view, at);
}

// reread makes a snapshot be read again: an action has changed it.
export function reread(cluster, name) {
  const known = read.get(`${cluster}/${name}`);
  if (known) known.asked = 0;
}

function head(s, c) {
  return el('div', { class: 'bar' }, el('h2', { tabindex: '-1' }, stateBadge(s.state), ' ', mono(s.name), s.pinned && ' ', s.pinned && badge('', 'PINNED')),
    el('div', { class: 'actions' }, ...actions.ofSnapshot(s, c)));
}

function errors(s) {
  const v = s.verification;
  return el('div', {}, s.error ? el('p', { class: 'notice danger' }, s.error) : null,
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
    v.hashKv ? mono(Number(v.hashKv).toString(16)) : '-',
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
