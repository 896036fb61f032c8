// Commands for the shell of the person who reads the page.

import { state } from './state.js';

// quote makes an argument for the shell of a text.
export function quote(arg) {
  const s = String(arg);
  if (/^[A-Za-z0-9_.\/:=@%+,-]+$/.test(s)) return s;
  if (!/[\p{Cc}\p{Cf}]/u.test(s)) return `'${s.replaceAll("'", "'\\''")}'`;
  const escaped = s.replace(/[\\']/g, '\\$&')
    .replace(/[\p{Cc}\p{Cf}]/gu, (c) => `\\U${c.codePointAt(0).toString(16).padStart(8, '0')}`);
  return `$'${escaped}'`; // bash and zsh
}

const loopback = (host) => /^(localhost|127\..*|\[?::1\]?)$/.test(host);

// service returns the flags with which the commands reach this service from the browser's machine.
function service() {
  if (state.service.grpc.startsWith('unix://')) return ['--addr', state.service.grpc]; // on the service's own machine
  const [, host, port] = /^(.*):(\d+)$/.exec(state.service.grpc);
  const anywhere = /^(0\.0\.0\.0|\[::\])$/.test(host);
  const here = loopback(location.hostname) ? '127.0.0.1' : location.hostname;
  const there = anywhere ? here : host;
  const addr = `${there}:${port}`;
  const flags = addr === '127.0.0.1:7379' ? [] : ['--addr', addr];
  if (state.service.token) flags.push('--token-file', 'TOKEN');
  if (state.service.tls) return flags.concat('--cacert', 'CA', ...(state.service.clientCA && !state.service.token ? ['--cert', 'CERT', '--key', 'KEY'] : []));
  return loopback(there) ? flags : flags.concat('--plaintext');
}

// reach returns the parts of the commands that depend on the service: when it changes, the commands do.
export function reach() {
  const { grpc, tls, clientCA, token } = state.service;
  return [grpc, tls, clientCA, token, state.clusters.length];
}

// command returns a command for the shell. Those with --from ask no service.
export function command(args, cluster) {
  const all = ['snapshotd', ...args];
  if (args.includes('--from')) {
    if (cluster !== 'default' || args.includes('--prefix')) all.push('--cluster', cluster);
  } else {
    if (state.clusters.length > 1) all.push('--cluster', cluster);
    all.push(...service());
  }
  return all.map(quote).join(' ');
}

// reads are the facts of a cluster on which its commands depend.
export const reads = (c) => [c.backends.map((b) => [b.name, b.url, b.uri]), c.prefix, c.canDecrypt, c.signaturesRequired];

// sealed reports whether a snapshot is encrypted for keys that the service has not: it can neither drill nor decode it.
export const sealed = (s, c) => s.encryptionRecipients.length > 0 && !c.canDecrypt;

export const wholeCopies = (s) => s.locations.filter((l) => l.state === 'STATE_READY' && l.uri);

// drill returns the arguments that prove that a snapshot can be restored, where there is an identity for it.
export function drill(s, c) {
  const whole = wholeCopies(s);
  if (!sealed(s, c) || !whole.length) return ['verify', s.name, '--level', 'drill'];
  return ['verify', s.name, ...from([reachable(whole, (l) => l.uri)], c), ...keys(s, c), '--level', 'drill'];
}

// reachable is the place that most machines reach: a bucket, or else the first directory.
const reachable = (places, url) => places.find((p) => !url(p).startsWith('file:')) || places[0];

// restore returns the arguments that plan a restore of a snapshot from the backends that hold it.
export const restore = (name, s, c) => ['restore', name, ...from(wholeCopies(s), c), ...keys(s, c), '--data-dir', 'DIR', '--dry-run'];

const keys = (s, c) => [...(s.encryptionRecipients.length ? ['--identity', 'FILE'] : []),
  ...(c.signaturesRequired && s.trigger !== 'TRIGGER_ADOPTED' ? ['--signing-public-key-file', 'PUBLIC_KEY'] : [])];

const usual = (c) => `${c.name}/`;
const prefixOf = (c) => c.prefix ?? usual(c); // a replica of an older version does not tell it

// from returns the flags for copies, by the URLs of the configuration. Copies that are not in the cluster's usual place need a prefix.
function from(locations, c) {
  const places = locations.map((l) => {
    const backend = c.backends.find((b) => b.name === l.backend);
    const prefix = backend && l.uri.startsWith(backend.uri) ? l.uri.slice(backend.uri.length).replace(/[^/]*$/, '') : prefixOf(c);
    return { url: backend ? backend.url : l.uri.slice(0, l.uri.lastIndexOf('/')), prefix };
  });
  const [{ prefix }] = places;
  const where = prefix === usual(c) ? [] : ['--prefix', prefix];
  return [...places.filter((p) => p.prefix === prefix).flatMap((p) => ['--from', p.url]), ...where];
}

// withoutService returns the commands that list the snapshots of a cluster and plan the restore of the newest one, when nothing but the
// configuration is known. The list takes one place.
export function withoutService(c) {
  const { newestReady } = c.newestReady ? c : state.known.get(c.name)?.cluster || c; // the catalog may have been down first
  const { url } = reachable(c.backends, (b) => b.url);
  const where = prefixOf(c) === usual(c) ? [] : ['--prefix', prefixOf(c)];
  const places = c.backends.flatMap((b) => ['--from', b.url]);
  return [command(['list', '--from', url, ...where], c.name), command(['restore', 'latest', ...places, ...where,
    ...keys(newestReady || { encryptionRecipients: [] }, c), '--data-dir', 'DIR', '--dry-run'], c.name)];
}
