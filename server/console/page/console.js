// The console: asks /console/overview for the verdicts and /v1/ for the list, follows /v1/events, and says how old what it
// shows is. What comes from the service is what others wrote, and becomes text, never markup.
'use strict';

const every = 10000; // milliseconds between two looks when no event asks for one
const patience = 15000; // for one answer
const fresh = 35000; // what is older is not current, whatever was heard
const relist = 60000; // after which the list is asked for even if the overview knows of no change: it does not look at all
const page = 50; // rows at first, and that "Show more" adds
const mostRows = 1000;

const state = {
  overview: null, // as it was heard last
  asked: 0, // when, by this browser's clock
  skew: 0, // milliseconds that the service's clock is ahead of this browser's
  problem: null, // why the last look failed; null when it went well
  listed: null, // the list as it was heard last, with the cluster and the time
  listProblem: null,
  live: false, // whether events are coming in
  moving: new Map(), // by cluster: the progress of a save that this replica does
  rows: page,
  known: new Map(), // by cluster: what its catalog said when it was read last, and when
  open: new Set(), // rows whose details are shown
  folded: new Map(), // by cluster: whether its card is open, when somebody has said so
  stale: null,
};

const $ = (id) => document.getElementById(id);

// el makes an element. Children are nodes or text; null and false are left out.
function el(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) e.setAttribute(name, '');
    else if (value !== null && value !== undefined && value !== false) e.setAttribute(name, value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== false).map((c) => (c instanceof Node ? c : visible(c))));
  return e;
}

// visible shows characters that have no shape of their own, or turn the direction of what follows.
function visible(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}]/gu, (c) => (c === '\n' || c === '\t' ? ' ' : `\\u{${c.codePointAt(0).toString(16)}}`));
}

// Numbers and times

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

function size(n) {
  let v = Number(n);
  if (!(v > 0)) return '-';
  let u = 0;
  for (; v >= 1024 && u < units.length - 1; u++) v /= 1024;
  return `${u === 0 || v >= 9.95 ? Math.round(v) : v.toFixed(1)} ${units[u]}`;
}

function count(n) {
  return Number(n) > 0 ? String(n).replace(/\B(?=(\d{3})+$)/g, '\u202f') : '-';
}

function span(ms) {
  const s = Math.max(0, ms / 1000);
  if (s < 120) return `${Math.floor(s)}s`;
  if (s < 7200) return `${Math.floor(s / 60)}m`;
  if (s < 172800) return `${Math.floor(s / 3600)}h`;
  return `${Math.floor(s / 86400)}d`;
}

function took(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)}\u00a0ms`;
  return seconds < 60 ? `${seconds.toFixed(1)}\u00a0s` : span(seconds * 1000);
}

const utc = (ms) => `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
const now = () => Date.now() + state.skew; // by the service's clock

// age is how long ago something was; tick keeps it right.
function age(at) {
  const ms = Date.parse(at);
  if (!(ms > 0)) return el('span', {}, '-');
  const t = el('time', { datetime: new Date(ms).toISOString(), title: utc(ms), 'data-age': ms });
  t.textContent = span(now() - ms);
  return t;
}

// Badges: a mark, a word and a colour, so that no one of them is needed.

const marks = { safe: '✔', attention: '▲', danger: '✖', unknown: '?' };
const words = { safe: 'SAFE', attention: 'ATTENTION', danger: 'NOT SAFE', unknown: 'UNKNOWN' };
const kinds = { READY: 'safe', PASSED: 'safe', PARTIAL: 'attention', FAILED: 'danger' };

function badge(kind, text, big) {
  const mark = el('span', { 'aria-hidden': 'true' }, marks[kind] || '…');
  return el('span', { class: `badge ${kind || ''}${big ? ' big' : ''}` }, mark, ` ${text}`);
}

const plain = (name) => String(name).replace(/^(STATE|TRIGGER|LEVEL|COMPRESSION)_/, '');
const stateBadge = (name) => badge(kinds[plain(name)], plain(name));

// Commands

function quote(arg) {
  const s = String(arg);
  if (/^[A-Za-z0-9_.\/:=@%+,-]+$/.test(s)) return s;
  if (!/[\p{Cc}\p{Cf}]/u.test(s)) return `'${s.replaceAll("'", "'\\''")}'`;
  const escaped = s.replace(/[\\']/g, '\\$&').replace(/[\p{Cc}\p{Cf}]/gu, (c) => `\\U${c.codePointAt(0).toString(16).padStart(8, '0')}`);
  return `$'${escaped}'`; // bash and zsh
}

const loopback = (host) => /^(localhost|127\..*|\[?::1\]?)$/.test(host);

// service returns the flags with which the commands find this service from where the browser is.
function service() {
  const [, host, port] = /^(.*):(\d+)$/.exec(state.overview.grpc);
  const there = /^(0\.0\.0\.0|\[::\])$/.test(host) ? (loopback(location.hostname) ? '127.0.0.1' : location.hostname) : host;
  const addr = `${there}:${port}`;
  const flags = addr === '127.0.0.1:7379' ? [] : ['--addr', addr];
  if (state.overview.tls) return flags.concat('--tls');
  return loopback(there) ? flags : flags.concat('--plaintext');
}

// command returns a command for the shell. Those with --from ask no service.
function command(args, cluster) {
  const all = ['snapshotd', ...args];
  if (args.includes('--from')) {
    if (cluster !== 'default' && !args.includes('--prefix')) all.push('--cluster', cluster);
  } else {
    if (state.overview.clusters.length > 1) all.push('--cluster', cluster);
    all.push(...service());
  }
  return all.map((a) => (a === '' ? "''" : quote(a))).join(' ');
}

// from returns the flags that lead restore to a copy: the URL is that of its backend, as far as the copy's place says.
function from(uri, cluster) {
  let dir = uri.slice(0, uri.lastIndexOf('/'));
  const usual = dir.endsWith(`/${cluster}`);
  if (usual) dir = dir.slice(0, -cluster.length - 1);
  const s3 = /^s3:\/\/([^/]+)\/?(.*)$/.exec(dir);
  if (s3) dir = `s3://${s3[1]}?${s3[2] ? `prefix=${s3[2]}/&` : ''}region=…`;
  return { url: dir, s3: Boolean(s3), flags: usual ? [] : ['--prefix', ''] };
}

function restore(name, uris, sealed, cluster) {
  const places = uris.map((uri) => from(uri, cluster));
  const urls = places.filter((p) => p.flags.length === places[0].flags.length).flatMap((p) => ['--from', p.url]);
  return { args: ['restore', name, ...urls, ...places[0].flags, ...(sealed ? ['--identity', 'FILE'] : []), '--data-dir', 'DIR', '--dry-run'], s3: places.some((p) => p.s3) };
}

function commandLine(text) {
  const code = el('code', {}, text);
  const button = el('button', { type: 'button', 'aria-label': `Copy: ${visible(text)}` }, 'Copy');
  button.addEventListener('click', () => copy(code, text, button));
  return el('div', { class: 'command' }, code, button);
}

async function copy(code, text, button) {
  const range = document.createRange();
  range.selectNodeContents(code);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else if (!document.execCommand('copy')) throw new Error('refused');
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Selected'; // the browser lets no page copy here; the keyboard does
  }
  setTimeout(() => { button.textContent = 'Copy'; }, 2000);
}

// Asking

class Problem extends Error {
  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }
}

async function problemOf(resp) {
  try {
    const status = JSON.parse(await resp.text());
    return new Problem((status.details || []).map((d) => d.reason).find(Boolean) || '', status.message || `HTTP ${resp.status}`);
  } catch {
    return new Problem('', `it answers with HTTP ${resp.status}, which is none of its own answers: a proxy between?`);
  }
}

async function ask(path) {
  try {
    const resp = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(patience) });
    if (!resp.ok) throw await problemOf(resp);
    return await resp.json();
  } catch (e) {
    if (e instanceof Problem) throw e;
    throw new Problem('GONE', e.name === 'TimeoutError' ? `it has not answered for ${patience / 1000} s` : 'it cannot be reached');
  }
}

let looking = false;
let again = false;
let timer = 0;

// look asks for all that is shown.
async function look() {
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  clearTimeout(timer);
  do {
    again = false;
    try {
      await glance();
      if (!state.problem) await list();
      show();
    } catch (e) { // a defect of the page must not look like good news
      state.problem = new Problem('', `this page cannot show what the service has said: ${e.message}`);
      tick();
    }
  } while (again);
  looking = false;
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, every);
}

function soon() {
  clearTimeout(timer);
  if (looking) again = true;
  else timer = setTimeout(look, 300);
}

async function glance() {
  const asked = Date.now();
  try {
    state.overview = await ask('/console/overview');
    state.asked = asked;
    state.skew = Date.parse(state.overview.time) - asked;
    state.problem = null;
    firstVersion ||= state.overview.version;
    for (const c of state.overview.clusters) if (c.verdict !== 'unknown') state.known.set(c.name, { cluster: c, at: state.overview.time });
  } catch (e) {
    state.problem = e;
  }
}

// list asks for the list unless it is known to be as it was: a page that is left open should not fill the service's log.
async function list() {
  const cluster = chosen();
  const { mark, verdict, findings: why } = state.overview.clusters.find((c) => c.name === cluster);
  const query = new URLSearchParams({ pageSize: state.rows });
  if ($('state').value) query.append('states', $('state').value);
  if ($('until').value) query.append('createTimeUntil', new Date(`${$('until').value}Z`).toISOString());
  const asked = Date.now();
  const same = state.listed && state.listed.cluster === cluster && state.listed.filter === String(query);
  if (verdict === 'unknown') {
    state.listProblem = new Problem('', why[0].text);
    if (!same) state.listed = null;
    return;
  }
  if (same && !state.listProblem && state.listed.mark === mark && asked - state.listed.asked < relist) return;
  try {
    const answer = await ask(`/v1/clusters/${encodeURIComponent(cluster)}/snapshots?${query}`);
    state.listed = { cluster, asked, mark, filter: String(query), snapshots: answer.snapshots, more: answer.nextPageToken !== '' };
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

// Events: each one asks for a look, and progress is shown at once.

let following = null;

async function follow() {
  for (let wait = 1000; !document.hidden; wait = Math.min(2 * wait, 15000)) {
    following = new AbortController();
    try {
      const resp = await fetch('/v1/events', { cache: 'no-store', signal: following.signal });
      if (resp.ok) {
        wait = 500;
        state.live = true;
        soon(); // for what has happened before
        await readLines(resp.body, happened);
      }
    } catch {
      // what is to be known of it, the next look will say
    }
    state.live = false;
    state.moving.clear();
    tick();
    if (!document.hidden) soon(); // to know whether the service is still there
    await new Promise((done) => { setTimeout(done, wait); });
  }
  following = null;
}

async function readLines(body, each) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = '', part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split('\n');
    rest = lines.pop();
    lines.filter(Boolean).forEach((line) => each(JSON.parse(line)));
  }
}

function happened(message) {
  const event = message.result;
  if (!event || event.type === 'TYPE_POSITION') return;
  if (event.type === 'TYPE_PROGRESS') {
    state.moving.set(event.cluster, { event, at: Date.now() });
    showMoving(event.cluster);
    return;
  }
  if (event.type === 'TYPE_FINISHED') state.moving.delete(event.cluster);
  soon();
}

// Showing: what has not changed stays as it is, so that focus and selection do.

const isStale = () => Boolean(state.problem) || !(Math.abs(Date.now() - state.asked) < fresh);

function show() {
  if (state.overview) {
    const o = state.overview;
    $('version').textContent = o.version;
    showFleet(o);
    showClusters(o);
    showFilters(o);
    showList();
  }
  tick();
}

// tick says, every second, how old all is, and whether it is current.
function tick() {
  const stale = isStale();
  if (stale !== state.stale) {
    state.stale = stale;
    document.documentElement.classList.toggle('stale', stale);
    if (state.overview) {
      showFleet(state.overview);
      showClusters(state.overview);
    }
  }
  for (const t of document.querySelectorAll('[data-age]')) setText(t, span(now() - Number(t.dataset.age)));
  showLink(stale);
  showNotice(stale);
}

function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

function showLink(stale) {
  const ago = Date.now() - state.asked;
  const at = state.asked ? `${utc(state.asked + state.skew).slice(11)}` : '';
  let kind = state.live ? 'safe' : 'attention';
  let text = state.live ? `Live, as of ${at}` : `No events, asked every ${every / 1000} s, as of ${at}`;
  let mark = '●';
  if (stale) {
    kind = 'danger';
    mark = '✖';
    text = state.asked ? `NOT CURRENT: as of ${at}, ${span(ago)} ago` : 'NOT CONNECTED';
    if (refused()) text = 'REFUSED';
  }
  if (!state.asked && !state.problem) [kind, mark, text] = ['', '○', 'Asking…'];
  $('link').className = `link ${kind}`;
  setText($('link').firstElementChild, mark);
  setText($('link-text'), text);
  const bad = refused() ? '✖ REFUSED' : '✖ NOT CURRENT';
  document.title = `${document.hidden ? '… paused' : stale ? bad : headline()} · snapshotd`;
}

const rank = ['danger', 'unknown', 'attention', 'safe'];

function worst(clusters) {
  return rank.find((v) => clusters.some((c) => c.verdict === v)) || 'unknown';
}

function headline() {
  const v = worst(state.overview.clusters);
  return `${marks[v]} ${words[v]}`;
}

const refusals = {
  CERTIFICATE_REQUIRED: ['Import a client certificate of the CA of tls.client_ca into this browser, with its key (most take a .p12 file), and load this page again.'],
  LOCAL_ONLY: ['Bring the port to your machine: ssh -L 7380:127.0.0.1:PORT HOST, with the port and host of this page, and open http://localhost:7380/ here.',
    'Or let gRPC listen on another address (--listen-grpc), with TLS and client certificates.'],
  FOREIGN_HOST: ['Open this page as http://localhost:PORT/ or http://127.0.0.1:PORT/, over ssh -L if need be. A proxy before the service must ask for it by that name.'],
};

const outage = ['Does it run? systemctl status snapshotd, or kubectl get pods, and its log.',
  'Restoring needs no service: snapshotd list --from URL, then snapshotd restore latest --from URL --data-dir DIR --dry-run, with the URL of a backend.'];

const refused = () => Boolean(state.problem) && Object.hasOwn(refusals, state.problem.reason);

let noticed = '';
let firstVersion = ''; // of the service, when the page was loaded

function showNotice(stale) {
  const p = state.problem;
  $('main').hidden = refused() || !state.overview;
  let shown = null;
  if (refused()) {
    shown = ['The API is refused to this browser', visible(`${p.message.charAt(0).toUpperCase()}${p.message.slice(1)}.`), refusals[p.reason]];
  } else if (stale && (p || state.asked)) {
    const what = p ? p.message : 'nothing was asked for a while';
    const shows = state.asked ? ` What is shown below is as it was at ${utc(state.asked + state.skew)}; it is tried again all the time.` : ' It is tried again all the time.';
    shown = [p && p.reason !== 'GONE' ? 'Not current' : 'Not current: the service does not answer', `${visible(what.charAt(0).toUpperCase() + what.slice(1))}.${shows}`, outage];
  } else if (state.overview && state.overview.version !== firstVersion) {
    shown = ['The service was updated', 'Load this page again: it belongs to the version before.', []];
  }
  const key = JSON.stringify(shown);
  if (key === noticed) return; // or a screen reader says it each second
  noticed = key;
  $('notice').hidden = !shown;
  if (!shown) return;
  $('notice-title').textContent = shown[0];
  $('notice-text').textContent = shown[1];
  $('notice-do').replaceChildren(...shown[2].map((line) => el('li', {}, line)));
}

function showFleet(o) {
  const counts = rank.map((v) => [o.clusters.filter((c) => c.verdict === v).length, v]).filter(([n]) => n);
  $('fleet').hidden = o.clusters.length < 2;
  $('fleet').replaceChildren(`${o.clusters.length} clusters${state.stale ? ', as they were' : ''}: `,
    ...counts.flatMap(([n, v]) => [badge(v, `${n} ${words[v]}`), ' ']));
}

// keyed brings the children of a parent in line with what is wanted: [key, signature, make].
function keyed(parent, wanted) {
  const old = new Map([...parent.children].map((e) => [e.dataset.key, e]));
  let at = parent.firstElementChild;
  for (const [key, signature, make] of wanted) {
    let e = old.get(key);
    if (!e || e.dataset.signature !== signature) {
      const fresh = make();
      fresh.dataset.key = key;
      fresh.dataset.signature = signature;
      if (e) {
        if (at === e) at = fresh;
        e.replaceWith(fresh);
      }
      e = fresh;
    }
    old.delete(key);
    if (at === e) at = e.nextElementSibling;
    else parent.insertBefore(e, at);
  }
  for (const e of old.values()) e.remove();
}

function showClusters(o) {
  const sorted = [...o.clusters].sort((a, b) => rank.indexOf(a.verdict) - rank.indexOf(b.verdict));
  keyed($('clusters'), sorted.map((c) => [c.name, JSON.stringify([c, state.stale, o.grpc, o.tls, o.clusters.length]), () => card(c, o.clusters.length)]));
  o.clusters.forEach((c) => showMoving(c.name));
}

function card(c, clusters) {
  const kind = state.stale ? 'unknown' : c.verdict;
  const word = state.stale ? `UNKNOWN, was ${words[c.verdict]}` : words[c.verdict];
  const open = state.folded.has(c.name) ? state.folded.get(c.name) : clusters <= 3 || c.verdict !== 'safe';
  const known = c.verdict !== 'unknown';
  const summary = el('summary', {}, badge(kind, word, true), el('span', { class: 'name' }, c.name),
    known && el('span', { class: 'fact' }, 'newest READY ', el('b', {}, c.newest ? age(c.newest.created) : 'none'), c.newest && ' ago'),
    known && el('span', { class: 'fact' }, 'last save ', c.lastSave ? stateBadge(c.lastSave.state) : el('b', {}, 'none'), c.lastSave && ' ', c.lastSave && age(c.lastSave.created), c.lastSave && ' ago'),
    known && el('span', { class: 'fact' }, 'restore proven ', el('b', {}, c.proven ? age(c.proven.time) : 'never'), c.proven && ' ago'));
  const body = el('div', { class: 'body' }, findings(c), el('div', { class: 'saving', 'data-cluster': c.name, hidden: true }),
    known && el('div', { class: 'columns' }, facts(c), backends(c)), known ? commands(c) : lastKnown(c.name));
  const details = el('details', { class: `card ${kind}`, open }, summary, body);
  summary.addEventListener('click', () => state.folded.set(c.name, !details.open));
  return details;
}

function findings(c) {
  const said = new Set(); // what helps against one may help against the next
  const items = c.findings.map((f) => {
    const help = command(f.do, c.name);
    const item = el('li', { class: f.verdict }, el('span', { class: 'mark' }, `${state.stale ? '?' : marks[f.verdict]} `), f.text, !said.has(help) && commandLine(help));
    said.add(help);
    return item;
  });
  if (!items.length) items.push(el('li', {}, el('span', { class: 'mark' }, `${state.stale ? '?' : marks.safe} `), `Nothing to be done${state.stale ? ', when last heard' : ''}.`));
  return el('ul', { class: 'findings' }, ...items);
}

// lastKnown says what a catalog that cannot be read has said before, for that is when it is needed.
function lastKnown(name) {
  const { cluster, at } = state.known.get(name) || {};
  if (!cluster) return null;
  const what = cluster.newest ? ['The newest READY snapshot was ', mono(cluster.newest.name), ', taken ', age(cluster.newest.created), ' ago. '] : ['There was no READY snapshot. '];
  return el('div', {}, el('p', {}, `When the catalog was read last, at ${utc(Date.parse(at))}: `, ...what), restoreLine(cluster));
}

const mono = (text) => el('span', { class: 'mono' }, text);

function snapshotLine(s) {
  return [mono(s.name), `, revision ${count(s.revision)}, ${count(s.keys)} keys, ${size(s.bytes)}`];
}

function facts(c) {
  const term = (name, ...what) => [el('dt', {}, name), el('dd', {}, ...what)];
  const none = (what) => el('span', { class: 'quiet' }, what);
  const among = c.all ? '' : ` among the newest ${c.looked}`;
  const waiting = c.backends.reduce((n, b) => n + b.waiting, 0);
  return el('div', {}, el('h3', {}, 'At a glance'), el('dl', {},
    ...term('Newest READY', ...(c.newest ? [age(c.newest.created), ' ago, ', ...snapshotLine(c.newest)] : [none(`none${among}`)])),
    ...term('Last save', ...(c.lastSave ? [stateBadge(c.lastSave.state), ' ', age(c.lastSave.created), ` ago, ${c.lastSave.trigger}, took ${took(c.lastSave.seconds)}, `, mono(c.lastSave.name)] : [none(`none${among}`)])),
    ...term('Restore proven', ...(c.proven ? [age(c.proven.time), ' ago, by a drill of ', ...snapshotLine(c.proven)] : [none(`never${among}`)])),
    ...term('Waits for repair', waiting ? el('b', {}, `${waiting} ${waiting === 1 ? 'copy' : 'copies'}`) : none('nothing')),
    ...term('Looked at', c.all ? `all of the catalog, ${c.looked}` : `the newest ${c.looked}`)));
}

function backends(c) {
  const rows = c.backends.map((b) => el('tr', {}, el('th', { scope: 'row' }, b.name),
    el('td', {}, b.last ? stateBadge(b.last) : el('span', { class: 'quiet' }, c.lastSave ? 'not to go there' : '-'), b.error && el('div', {}, b.error)),
    el('td', {}, ...(b.newest ? [age(b.newest.created), ' ago', el('div', {}, mono(b.newest.name))] : [badge('danger', 'NONE')])),
    el('td', {}, b.waiting ? `${b.waiting}` : '-', b.waiting && b.next ? el('div', { class: 'quiet' }, `next try ${utc(Date.parse(b.next)).slice(11, 19)}`) : null)));
  return el('div', {}, el('h3', {}, 'Backends'), el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, el('tr', {},
    el('th', { scope: 'col' }, 'Backend'), el('th', { scope: 'col' }, 'Last save'), el('th', { scope: 'col' }, 'Newest whole copy'), el('th', { scope: 'col' }, 'Waiting'))), el('tbody', {}, ...rows))));
}

function commands(c) {
  const parts = [];
  const add = (what, args) => parts.push(el('p', { class: 'what' }, what), commandLine(command(args, c.name)));
  add('Take a snapshot now', ['save']);
  if (c.newest) add('Prove that the newest one can be restored, in a throw-away etcd', ['verify', c.newest.name, '--level', 'drill']);
  add('Hold the catalog against the backends, and copy what is missing', ['reconcile', '--repair']);
  parts.push(restoreLine(c));
  return el('details', {}, el('summary', {}, 'Commands'), el('div', { class: 'commands' }, ...parts.filter(Boolean)));
}

function restoreLine(c) {
  const newest = c.backends.map((b) => b.newest).filter((s) => s && s.uri);
  if (!newest.length) return null;
  const r = restore('latest', newest.map((s) => s.uri), newest.some((s) => s.sealed), c.name);
  const s3 = r.s3 ? '. Complete the URL of S3 as in the configuration' : '';
  return el('div', {}, el('p', { class: 'what' }, `Say how the newest one would be restored, to the directory DIR; without --dry-run it is${s3}`), commandLine(command(r.args, c.name)));
}

function showMoving(name) {
  const box = [...document.querySelectorAll('.saving')].find((e) => e.dataset.cluster === name);
  const cluster = state.overview && state.overview.clusters.find((c) => c.name === name);
  if (!box || !cluster) return;
  const saving = cluster.saving;
  const { event: last, at } = state.moving.get(name) || {};
  const event = last && (Date.now() - at < fresh || (saving && saving.name === last.name)) ? last : null; // a save can end without an event
  box.hidden = (!event && !saving) || state.stale;
  if (box.hidden) return;
  const what = event && (event.backend ? `to ${event.backend}` : 'from etcd');
  const known = event && Number(event.totalBytes) > 0;
  box.replaceChildren(badge('', 'SAVING'), mono(event ? event.name : saving.name), ...(saving ? [el('span', {}, 'begun ', age(saving.created), ' ago')] : []),
    ...(event ? [el('progress', known ? { max: event.totalBytes, value: event.doneBytes, 'aria-label': what } : { 'aria-label': what }),
      el('span', {}, `${size(event.doneBytes)}${known ? ` of ${size(event.totalBytes)}` : ''} ${what}`)] : []));
}

function showFilters(o) {
  $('cluster-label').hidden = o.clusters.length < 2;
  const names = o.clusters.map((c) => c.name);
  if (JSON.stringify(names) === $('cluster').dataset.names) return;
  const was = $('cluster').value;
  $('cluster').replaceChildren(...names.map((n) => el('option', { value: n, selected: n === was }, n)));
  $('cluster').dataset.names = JSON.stringify(names);
}

function showList() {
  const p = state.listProblem;
  const l = state.listed;
  const old = l ? ` The rows below are as they were at ${utc(l.asked + state.skew)}.` : '';
  setText($('list-error'), p ? visible(`The list cannot be read: ${p.message}${/[.:]$/.test(p.message) ? '' : '.'}${old}`) : '');
  $('list-error').hidden = !p;
  keyed($('rows'), (l ? l.snapshots : []).flatMap((s) => {
    const key = `${s.cluster}/${s.name}`;
    const signature = JSON.stringify(s);
    const rows = [[key, signature, () => row(s, key)]];
    if (state.open.has(key)) rows.push([`${key}/details`, signature, () => detailsRow(s)]);
    return rows;
  }));
  const n = l ? l.snapshots.length : 0;
  $('more').hidden = !l || !l.more || n >= mostRows;
  setText($('count'), !l ? '' : n === 0 ? 'No such snapshot.' : `${n} shown, newest first${l.more ? `; there are more${n >= mostRows ? ': choose a time, or use snapshotd list' : ''}` : ''}.`);
}

// cell is one of a row; its label is shown where there is no room for a head.
function cell(label, className, ...children) {
  return el('td', { 'data-label': label, class: className, role: 'cell' }, ...children);
}

function row(s, key) {
  const open = state.open.has(key);
  const button = el('button', { type: 'button', class: 'name', 'aria-expanded': String(open) }, s.name);
  button.addEventListener('click', () => {
    if (!state.open.delete(key)) state.open.add(key);
    button.setAttribute('aria-expanded', String(state.open.has(key)));
    showList();
  });
  const v = s.verification;
  return el('tr', { role: 'row' }, cell(null, '', button, s.pinned && ' ', s.pinned && badge('', 'PINNED')), cell(null, '', stateBadge(s.state)),
    cell('Age', '', age(s.createTime)), cell('Database', 'num', size(s.dbSizeBytes)), cell('Stored', 'num', size(s.storedSizeBytes)), cell('Keys', 'num', count(s.totalKeys)),
    cell('Revision', 'num', count(s.revision)), cell(null, '', plain(s.trigger)),
    cell('On', '', ...s.locations.flatMap((l) => [el('span', { class: 'where' }, l.backend, ' ', stateBadge(l.state)), ' '])),
    cell('Verified', '', ...(v ? [stateBadge(v.state), ` ${plain(v.level)} `, age(v.time)] : ['-'])));
}

function verdict(v) {
  if (!v) return 'never';
  return `${plain(v.level)} ${plain(v.state)} at ${utc(Date.parse(v.time))}, on ${v.backends.join(', ')}${v.storedOnly ? ', as it is stored alone' : ''}${v.live ? `; HashKV: ${v.live}` : ''}`;
}

function detailsRow(s) {
  const term = (name, what) => (what === '' || what === null ? [] : [el('dt', {}, name), el('dd', {}, what)]);
  const v = s.verification;
  const places = s.locations.map((l) => el('tr', {}, el('th', { scope: 'row' }, l.backend), el('td', {}, stateBadge(l.state)), el('td', { class: 'mono place' }, l.uri),
    el('td', {}, age(l.updateTime)), el('td', { class: 'error' }, l.error || '-')));
  const labels = Object.entries(s.labels || {}).sort().map(([k, value]) => el('span', {}, `${k}=${value}`));
  const whole = s.locations.filter((l) => l.state === 'STATE_READY' && l.uri).map((l) => l.uri);
  const lines = [command(['get', s.name], s.cluster)];
  if (whole.length) {
    lines.push(command(['verify', s.name, '--level', 'drill'], s.cluster), command(restore(s.name, whole, s.encryptionRecipients.length > 0, s.cluster).args, s.cluster),
      command(['download', s.name, '--decoded', '--output', `${s.name}.db`], s.cluster));
  }
  const etcd = s.etcdVersion ? `${s.etcdVersion}${s.storageVersion ? `, storage ${s.storageVersion}` : ''}` : '';
  return el('tr', { class: 'details', role: 'row' }, el('td', { colspan: '10', role: 'cell' },
    s.error && el('p', { class: 'notice danger' }, s.error), v && v.error && el('p', { class: 'notice danger' }, `Verification: ${v.error}`),
    el('h3', {}, 'Copies'), el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, el('tr', {},
      ...['Backend', 'State', 'Place', 'Since', 'Error'].map((h) => el('th', { scope: 'col' }, h)))), el('tbody', {}, ...places))),
    el('h3', {}, 'Facts'), el('dl', {},
      ...term('Taken', `${utc(Date.parse(s.createTime))} on ${s.node || '-'}, took ${took(parseFloat(s.duration) || 0)}`),
      ...term('Labels', labels.length ? el('span', { class: 'labels' }, ...labels) : null), ...term('etcd', etcd),
      ...term('sha256', s.sha256 ? mono(s.sha256) : ''), ...term('Hash', s.hash ? mono(Number(s.hash).toString(16)) : ''),
      ...term('Stored as', plain(s.compression) + (s.encryptionRecipients.length ? `, encrypted for ${s.encryptionRecipients.join(', ')}` : '')),
      ...term('Verified', verdict(v))),
    el('h3', {}, 'Commands'), ...lines.map(commandLine)));
}

// Beginning

function anew() {
  state.rows = page;
  $('rows').replaceChildren();
  state.listed = null;
  look();
}

function wake() {
  if (document.hidden) {
    clearTimeout(timer);
    if (following) following.abort();
    tick();
    return;
  }
  tick();
  look();
  if (!following) follow();
}

for (const id of ['cluster', 'state', 'until']) $(id).addEventListener('change', anew);
$('more').addEventListener('click', () => {
  state.rows = Math.min(mostRows, state.rows + page);
  look();
});
document.addEventListener('visibilitychange', wake); // who is not looked at asks nothing
addEventListener('pageshow', (e) => { if (e.persisted) wake(); });
addEventListener('online', look);
setInterval(tick, 1000);
look();
follow();
