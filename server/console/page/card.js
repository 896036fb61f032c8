// The facts about one cluster.

import { command, restore } from './commands.js';
import { commandLine } from './copyable.js';
import { el } from './dom.js';
import { movingBox } from './moving.js';
import { age, badge, mono, quiet, snapshotLine, stateBadge, table } from './pieces.js';
import { state } from './state.js';
import { marks, took, utc, words } from './words.js';

// card is the card of one of several clusters.
export function card(c, clusters) {
  const kind = state.stale ? 'unknown' : c.verdict;
  const known = c.verdict !== 'unknown';
  const word = state.stale ? `UNKNOWN, was ${words[c.verdict]}` : words[c.verdict];
  const summary = el('summary', {}, badge(kind, word, true), el('span', { class: 'name' }, c.name), ...(known ? glimpse(c) : []));
  const body = el('div', { class: 'body' }, findings(c), movingBox(c.name),
    known && el('div', { class: 'columns' }, facts(c), backends(c)), known ? commands(c) : lastKnown(c.name));
  return foldable(c.name, { class: `card ${kind}`, open: clusters <= 3 || c.verdict !== 'safe' }, summary, body);
}

// foldable keeps its state, open or closed by the person, when it is made again.
function foldable(key, attributes, summary, body) {
  const details = el('details', attributes, summary, body);
  if (state.unfolded.has(key)) details.open = state.unfolded.get(key);
  summary.addEventListener('click', () => state.unfolded.set(key, !details.open));
  return details;
}

// glimpse is the visible part of a folded card.
function glimpse(c) {
  const fact = (...what) => el('span', { class: 'fact' }, ...what);
  const bold = (what) => el('b', {}, what);
  return [
    c.newest ? fact('newest READY ', bold(age(c.newest.created)), ' ago') : fact('newest READY ', bold('none')),
    c.lastSave ? fact('last save ', stateBadge(c.lastSave.state), ' ', age(c.lastSave.created), ' ago') : fact('last save ', bold('none')),
    c.proven ? fact('restore proven ', bold(age(c.proven.time)), ' ago') : fact('restore proven ', bold('never')),
  ];
}

function findings(c) {
  const said = new Set(); // one command may help against several findings
  const mark = (verdict) => el('span', { class: 'mark' }, `${state.stale ? '?' : marks[verdict]} `);
  const items = c.findings.map((f) => {
    const help = command(f.do, c.name);
    const item = el('li', { class: f.verdict }, mark(f.verdict), f.text, !said.has(help) && commandLine(help));
    said.add(help);
    return item;
  });
  if (!items.length) items.push(el('li', {}, mark('safe'), `Nothing to be done${state.stale ? ', when last heard' : ''}.`));
  return el('ul', { class: 'findings' }, ...items);
}

// lastKnown shows the newest snapshot from the last time that the catalog could be read: it is needed when the catalog is down.
function lastKnown(name) {
  const { cluster, at } = state.known.get(name) || {};
  if (!cluster) return null;
  const { newest } = cluster;
  const what = newest
    ? ['The newest READY snapshot was ', mono(newest.name), ', taken ', age(newest.created), ' ago. ']
    : ['There was no READY snapshot. '];
  return el('div', {}, el('p', {}, `When the catalog was read last, at ${utc(Date.parse(at))}: `, ...what), restoreLine(cluster));
}

function facts(c) {
  const term = (name, what) => [el('dt', {}, name), el('dd', {}, ...what)];
  const among = c.all ? '' : ` among the newest ${c.examined}`;
  const waiting = c.backends.reduce((n, b) => n + b.waiting, 0);
  const { newest, lastSave: last, proven } = c;
  return el('div', {}, el('h3', {}, 'At a glance'), el('dl', {},
    ...term('Newest READY', newest ? [age(newest.created), ' ago, ', ...snapshotLine(newest)] : [quiet(`none${among}`)]),
    ...term('Last save', last
      ? [stateBadge(last.state), ' ', age(last.created), ` ago, ${last.trigger}, took ${took(last.seconds)}, `, mono(last.name)]
      : [quiet(`none${among}`)]),
    ...term('Restore proven', proven
      ? [age(proven.time), ' ago, by a drill of ', ...snapshotLine(proven)]
      : [quiet(`never${among}`)]),
    ...term('Waits for repair', [waiting ? el('b', {}, `${waiting} ${waiting === 1 ? 'copy' : 'copies'}`) : quiet('nothing')]),
    ...term('Looked at', [c.all ? `all of the catalog, ${c.examined}` : `the newest ${c.examined}`])));
}

function backends(c) {
  const rows = c.backends.map((b) => el('tr', {}, el('th', { scope: 'row' }, b.name),
    el('td', {}, b.last ? stateBadge(b.last) : quiet(c.lastSave ? 'not to go there' : '-'), b.error && el('div', {}, b.error)),
    el('td', {}, ...(b.newest ? [age(b.newest.created), ' ago', el('div', {}, mono(b.newest.name))] : [badge('danger', 'NONE')])),
    el('td', {}, b.waiting ? `${b.waiting}` : '-',
      b.waiting && b.next ? el('div', { class: 'quiet' }, `next try ${utc(Date.parse(b.next)).slice(11, 19)}`) : null)));
  return el('div', {}, el('h3', {}, 'Backends'), table(['Backend', 'Last save', 'Newest whole copy', 'Waiting'], rows));
}

function commands(c) {
  const parts = [];
  const add = (what, args) => parts.push(el('p', { class: 'what' }, what), commandLine(command(args, c.name)));
  add('Take a snapshot now', ['save']);
  if (c.newest) add('Prove that the newest one can be restored, in a throw-away etcd', ['verify', c.newest.name, '--level', 'drill']);
  add('Hold the catalog against the backends, and copy what is missing', ['reconcile', '--repair']);
  parts.push(restoreLine(c));
  return foldable(`${c.name}/commands`, {}, el('summary', {}, 'Commands'), el('div', { class: 'commands' }, ...parts));
}

function restoreLine(c) {
  const newest = c.backends.map((b) => b.newest).filter((s) => s && s.uri);
  if (!newest.length) return null;
  const r = restore('latest', newest.map((s) => s.uri), newest.some((s) => s.encrypted), c.name);
  const s3 = r.s3 ? '. Complete the URL of S3 as in the configuration' : '';
  return el('div', {},
    el('p', { class: 'what' }, `Say how the newest one would be restored, to the directory DIR; without --dry-run it is${s3}`),
    commandLine(command(r.args, c.name)));
}
