// Commands for the shell of the person who reads the page.

import { state } from './state.js';

function quote(arg) {
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
  if (state.service.tls) return flags.concat('--tls');
  return loopback(there) ? flags : flags.concat('--plaintext');
}

// reach returns the parts of the commands that depend on the service: when it changes, the commands do.
export function reach() {
  const { grpc, tls } = state.service;
  return [grpc, tls, state.clusters.length];
}

// command returns a command for the shell. Those with --from ask no service.
export function command(args, cluster) {
  const all = ['snapshotd', ...args];
  if (args.includes('--from')) {
    if (cluster !== 'default' && !args.includes('--prefix')) all.push('--cluster', cluster);
  } else {
    if (state.clusters.length > 1) all.push('--cluster', cluster);
    all.push(...service());
  }
  return all.map(quote).join(' ');
}

// restore returns the arguments that plan a restore of a snapshot from backends that hold it, by the URLs of the configuration. A
// copy that is not in the cluster's usual place needs its prefix.
export function restore(name, locations, cluster, encrypted) {
  const places = locations.map((l) => {
    const backend = cluster.backends.find((b) => b.name === l.backend);
    const prefix = backend && l.uri.startsWith(backend.uri) ? l.uri.slice(backend.uri.length).replace(/[^/]*$/, '') : `${cluster.name}/`;
    return { url: backend ? backend.url : l.uri.slice(0, l.uri.lastIndexOf('/')), prefix };
  });
  const [{ prefix }] = places;
  const from = places.filter((p) => p.prefix === prefix).flatMap((p) => ['--from', p.url]);
  const where = prefix === `${cluster.name}/` ? [] : ['--prefix', prefix];
  const identity = encrypted ? ['--identity', 'FILE'] : [];
  return ['restore', name, ...from, ...where, ...identity, '--data-dir', 'DIR', '--dry-run'];
}
