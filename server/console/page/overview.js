// All clusters, worst first: one line each, until it is opened.

import { choose, place, remember, toCluster } from './address.js';
import { command, reach, sealed, withoutService } from './commands.js';
import { el, keyed, setText } from './dom.js';
import { movingBox, showMoving } from './moving.js';
import { age, badge, commandLine, due, facts, foldable, mono, quiet, retell, stateBadge, steady, terms, verdictBadge, when } from './pieces.js';
import { state } from './state.js';
import { kindOf, marks, rank, several, utc, words } from './words.js';

export function showOverview(view, at) {
  if (view.dataset.link !== String(at.link)) view.replaceChildren();
  view.dataset.link = at.link;
  if (!view.firstElementChild) view.append(...frame(at));
  const all = state.clusters;
  const wanted = (at.choices.get('q') || '').toLowerCase().split(/\s+/).filter(Boolean);
  const found = all.filter((c) => wanted.every((w) => textOf(c).includes(w)))
    .sort((a, b) => rank.indexOf(kindOf(a.verdict)) - rank.indexOf(kindOf(b.verdict)));
  view.querySelector('#fleet').replaceChildren(...fleet(all));
  setText(view.querySelector('#found'), found.length < all.length ? `${several(found.length, 'cluster')} of ${all.length}` : '');
  const signature = (c) => JSON.stringify([steady(c), state.stale, reach()]);
  keyed(view.querySelector('#clusters'), found.map((c) => [c.name, signature(c), () => line(c, all.length === 1 || at.opened.has(c.name))]));
  const cards = view.querySelector('#clusters').children;
  found.forEach((c, i) => {
    retell(cards[i], c);
    showMoving(c.name);
  });
}

function frame(at) {
  const search = el('input', { id: 'search', type: 'search', value: at.choices.get('q') || '', placeholder: 'name, verdict, backend, reason' });
  search.addEventListener('input', () => {
    choose('q', search.value);
    showOverview(document.getElementById('view'), place());
  });
  return [
    el('div', { class: 'bar' }, el('h2', { id: 'clusters-title', tabindex: '-1' }, 'Clusters'),
      el('p', { id: 'fleet' }), el('label', { class: 'search' }, 'Search ', search), el('span', { id: 'found', class: 'quiet', role: 'status' })),
    el('div', { id: 'clusters' }),
  ];
}

const textOf = (c) => [c.name, words[kindOf(c.verdict)], c.leader, ...c.backends.map((b) => `${b.name} ${b.uri}`),
  ...c.findings.map((f) => f.text)].join('\n').toLowerCase();

function fleet(all) {
  const counts = rank.map((v) => [all.filter((c) => kindOf(c.verdict) === v).length, v]).filter(([n]) => n);
  return [`${several(all.length, 'cluster')}${state.stale ? ', as they were' : ''}: `,
    ...counts.flatMap(([n, v]) => [badge(v, `${n} ${words[v]}`), ' '])];
}

// line is one cluster. The address keeps which are open.
function line(c, open) {
  const known = c.verdict !== 'VERDICT_UNKNOWN';
  const [worst] = c.findings;
  const summary = el('summary', {}, verdictBadge(c.verdict),
    ...(known ? glimpse(c) : []), el('span', { class: known ? 'why' : 'why wide', title: worst && worst.text }, worst ? worst.text : ''));
  const alone = state.stale && known ? [el('p', {}, 'Restoring needs no service:'), ...withoutService(c).map(commandLine)] : [];
  const body = el('div', { class: 'body' }, findings(c), ...alone, movingBox(c.name), known ? atAGlance(c) : lastKnown(c.name),
    el('p', {}, el('a', { href: toCluster(c.name) }, `All about ${c.name}: timeline, snapshots, actions`)));
  const kind = state.stale ? 'unknown' : kindOf(c.verdict);
  return el('div', { class: `card ${kind}` }, el('a', { class: 'name', href: toCluster(c.name) }, c.name),
    foldable(c.name, { open }, summary, body, (now) => remember(c.name, now)));
}

// among is the limit of what is known of a cluster's snapshots.
const among = (c) => (c.complete ? '' : ` among the newest ${c.examined}`);

// outcome is how the last save ended, and whether what it stored was found damaged since.
function outcome(c) {
  const { lastSaveState: told = 'STATE_UNSPECIFIED', lastSave: { state: now } } = c;
  const saved = told === 'STATE_UNSPECIFIED' ? now : told; // a replica that is older than the page does not tell
  return saved === now ? [stateBadge(saved)] : [stateBadge(saved), ' ', badge('danger', 'DAMAGED SINCE')];
}

// glimpse is the visible part of a line.
function glimpse(c) {
  const fact = (...what) => el('span', { class: 'fact' }, ...what);
  const bold = (what) => el('b', {}, what);
  const none = (what) => bold(`${what}${among(c)}`);
  const unproven = c.newestReady && sealed(c.newestReady, c) ? bold('not known here') : none('never');
  const next = c.schedules.map((s) => s.nextTime).filter(Boolean).sort()[0];
  return [
    c.newestReady ? fact('newest READY ', bold(age(c.newestReady.createTime)), ' ago') : fact('newest READY ', none('none')),
    c.lastSave ? fact('last save ', ...outcome(c)) : fact('last save ', none('none')),
    c.proven ? fact('proven ', bold(age(c.provenTime)), ' ago') : fact('proven ', unproven),
    next ? fact('next run ', bold(due(next))) : fact('no schedule'),
  ];
}

// findings are why a verdict is what it is, and the commands that help.
export function findings(c) {
  const said = new Set(); // one command may help against several findings
  const mark = (kind) => el('span', { class: 'mark' }, `${state.stale ? '?' : marks[kind]} `);
  const items = c.findings.map((f) => {
    const help = f.command.length ? command(f.command, c.name) : '';
    const item = el('li', { class: kindOf(f.verdict) }, mark(kindOf(f.verdict)), el('span', { class: 'text' }, f.text),
      help && !said.has(help) ? commandLine(help) : null);
    said.add(help);
    return item;
  });
  if (!items.length) items.push(el('li', {}, mark('safe'), `Nothing to be done${state.stale ? ', when last heard' : ''}.`));
  return el('ul', { class: 'findings' }, ...items);
}

// atAGlance is the facts of a verdict.
export function atAGlance(c) {
  const waiting = Number(c.uploadsWaiting);
  const { newestReady: newest, lastSave: last, proven } = c;
  return terms([
    ['Newest READY', newest ? [when(newest.createTime), ' ', mono(newest.name), `, ${facts(newest)}`] : quiet(`none${among(c)}`)],
    ['Last save', last ? [...outcome(c), ' ', when(last.createTime), ' ', mono(last.name)] : quiet(`none${among(c)}`)],
    ['Restore proven', proven ? [when(c.provenTime), ' by a drill of ', mono(proven.name)] : quiet(`never${among(c)}`)],
    ['Waits for repair', waiting ? el('b', {}, several(waiting, 'copy', 'copies')) : quiet('nothing')],
    ['Leads', c.leader ? mono(c.leader) : quiet('none, or not known')],
    ['Looked at', c.complete ? `all of the catalog, ${c.examined}` : `the newest ${c.examined}`],
  ]);
}

// lastKnown shows the newest snapshot from the last time that the catalog could be read: it is needed when the catalog is down.
export function lastKnown(name) {
  const { cluster, at } = state.known.get(name) || {};
  if (!cluster) return null;
  const { newestReady: newest } = cluster;
  const what = newest
    ? ['The newest READY snapshot was ', mono(newest.name), ', taken ', age(newest.createTime), ' ago. ']
    : ['There was no READY snapshot. '];
  return el('p', {}, `When the catalog was read last, at ${utc(Date.parse(at))}: `, ...what);
}
