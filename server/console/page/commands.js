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
  const [, host, port] = /^(.*):(\d+)$/.exec(state.overview.grpc);
  const anywhere = /^(0\.0\.0\.0|\[::\])$/.test(host);
  const here = loopback(location.hostname) ? '127.0.0.1' : location.hostname;
  const there = anywhere ? here : host;
  const addr = `${there}:${port}`;
  const flags = addr === '127.0.0.1:7379' ? [] : ['--addr', addr];
  if (state.overview.tls) return flags.concat('--tls');
  return loopback(there) ? flags : flags.concat('--plaintext');
}

// reach returns the parts of the commands that depend on the service: when it changes, the commands do.
export function reach() {
  const { grpc, tls, clusters } = state.overview;
  return [grpc, tls, clusters.length];
}

// command returns a command for the shell. Those with --from ask no service.
export function command(args, cluster) {
  const all = ['snapshotd', ...args];
  if (args.includes('--from')) {
    if (cluster !== 'default' && !args.includes('--prefix')) all.push('--cluster', cluster);
  } else {
    if (state.overview.clusters.length > 1) all.push('--cluster', cluster);
    all.push(...service());
  }
  return all.map(quote).join(' ');
}

// from returns the flags with which restore finds a copy: the URL of its backend, as far as the copy's URI shows it.
function from(uri, cluster) {
  let dir = uri.slice(0, uri.lastIndexOf('/'));
  const usual = dir.endsWith(`/${cluster}`);
  if (usual) dir = dir.slice(0, -cluster.length - 1);
  const s3 = /^s3:\/\/([^/]+)\/?(.*)$/.exec(dir);
  if (s3) dir = `s3://${s3[1]}?${s3[2] ? `prefix=${s3[2]}/&` : ''}region=…`;
  return { url: dir, s3: Boolean(s3), flags: usual ? [] : ['--prefix', ''] };
}

// restore returns the arguments that plan a restore of a snapshot from its copies, and whether S3 is among their places.
export function restore(name, uris, encrypted, cluster) {
  const places = uris.map((uri) => from(uri, cluster));
  const urls = places.filter((p) => p.flags.length === places[0].flags.length).flatMap((p) => ['--from', p.url]);
  const identity = encrypted ? ['--identity', 'FILE'] : [];
  return {
    args: ['restore', name, ...urls, ...places[0].flags, ...identity, '--data-dir', 'DIR', '--dry-run'],
    s3: places.some((p) => p.s3),
  };
}
