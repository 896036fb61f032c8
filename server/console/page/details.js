// All facts about one snapshot.

import { command, restore } from './commands.js';
import { commandLine } from './copyable.js';
import { el } from './dom.js';
import { age, mono, stateBadge, table } from './pieces.js';
import { plain, took, utc } from './words.js';

// details is the row below that of a snapshot.
export function details(s) {
  const v = s.verification;
  return el('tr', { class: 'details', role: 'row' }, el('td', { colspan: '10', role: 'cell' },
    s.error && el('p', { class: 'notice danger' }, s.error),
    v && v.error && el('p', { class: 'notice danger' }, `Verification: ${v.error}`),
    el('h3', {}, 'Copies'), copies(s),
    el('h3', {}, 'Facts'), facts(s),
    el('h3', {}, 'Commands'), ...lines(s).map(commandLine)));
}

function copies(s) {
  const rows = s.locations.map((l) => el('tr', {},
    el('th', { scope: 'row' }, l.backend), el('td', {}, stateBadge(l.state)), el('td', { class: 'mono place' }, l.uri),
    el('td', {}, age(l.updateTime)), el('td', { class: 'error' }, l.error || '-')));
  return table(['Backend', 'State', 'Place', 'Since', 'Error'], rows);
}

function facts(s) {
  const term = (name, what) => (what === '' || what === null ? [] : [el('dt', {}, name), el('dd', {}, what)]);
  const labels = Object.entries(s.labels || {}).sort().map(([k, value]) => el('span', {}, `${k}=${value}`));
  const etcd = s.etcdVersion ? `${s.etcdVersion}${s.storageVersion ? `, storage ${s.storageVersion}` : ''}` : '';
  const encrypted = s.encryptionRecipients.length ? `, encrypted for ${s.encryptionRecipients.join(', ')}` : '';
  return el('dl', {},
    ...term('Taken', `${utc(Date.parse(s.createTime))} on ${s.node || '-'}, took ${took(parseFloat(s.duration) || 0)}`),
    ...term('Labels', labels.length ? el('span', { class: 'labels' }, ...labels) : null),
    ...term('etcd', etcd),
    ...term('sha256', s.sha256 ? mono(s.sha256) : ''),
    ...term('Hash', s.hash ? mono(Number(s.hash).toString(16)) : ''),
    ...term('Stored as', plain(s.compression) + encrypted),
    ...term('Verified', verified(s.verification)));
}

function verified(v) {
  if (!v) return 'never';
  const how = `${v.storedOnly ? ', as it is stored alone' : ''}${v.live ? `; HashKV: ${v.live}` : ''}`;
  return `${plain(v.level)} ${plain(v.state)} at ${utc(Date.parse(v.time))}, on ${v.backends.join(', ')}${how}`;
}

// lines are the commands; some need a whole copy.
function lines(s) {
  const whole = s.locations.filter((l) => l.state === 'STATE_READY' && l.uri).map((l) => l.uri);
  const all = [['get', s.name]];
  if (whole.length) {
    all.push(['verify', s.name, '--level', 'drill'],
      restore(s.name, whole, s.encryptionRecipients.length > 0, s.cluster).args,
      ['download', s.name, '--decoded', '--output', `${s.name}.db`]);
  }
  return all.map((args) => command(args, s.cluster));
}
