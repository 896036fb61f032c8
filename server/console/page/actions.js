// The buttons that change something, each for the role that it needs. The service decides, and its errors are shown as it gave them.

import { change, lines, Problem, snapshots } from './asking.js';
import { place, toCluster } from './address.js';
import { quote } from './commands.js';
import { ask as askFirst, problemBox } from './dialog.js';
import { button, el, setText } from './dom.js';
import { drop, take } from './listing.js';
import { look } from './looking.js';
import { badge, commandLine, mono, row, stateBadge, table } from './pieces.js';
import { reread } from './snapshot.js';
import { may } from './state.js';
import { count, several, size, stopped } from './words.js';

const operator = 'ROLE_OPERATOR';
const admin = 'ROLE_ADMIN';

const path = (s) => snapshots(s.cluster, s.name);

export const actions = {
  ofCluster: (c) => allowed(c.name, [
    [operator, 'Save now…', () => save(c)], [operator, 'Reconcile…', () => reconcile(c)], [operator, 'Prune…', () => prune(c)],
  ]),
  ofSnapshot: (s, c) => allowed(c.name, [
    [operator, 'Verify…', () => verify(s)], [operator, 'Labels…', () => labels(s)],
    s.pinned ? [admin, 'Unpin', () => pin(s, false)] : [operator, 'Pin', () => pin(s, true)],
    [admin, 'Download…', () => download(s)], [admin, 'Delete…', () => remove(s)],
  ]),
};

const allowed = (cluster, all) => all.filter(([role]) => may(role, cluster)).map(([, text, act]) => button(text, {}, act));

// changed shows a snapshot as the service says that it is now.
function changed(s) {
  if (s) take(s);
  look();
}

const field = (text, input) => el('label', { class: 'field' }, el('span', {}, text), input);
const choice = (id, options) => el('select', { id }, ...options.map(([value, text]) => el('option', { value }, text)));

// boxes are the backends of a cluster, to be chosen; none chosen means all.
function boxes(names) {
  const all = names.map((name) => [name, el('input', { type: 'checkbox', value: name })]);
  const set = el('fieldset', {}, el('legend', {}, 'Backends; all when none is chosen'), ...all.map(([name, box]) => el('label', {}, box, ' ', name)));
  return { set, chosen: () => all.filter(([, box]) => box.checked).map(([name]) => name) };
}

// labelsOf reads lines of key=value.
function labelsOf(text) {
  const pairs = text.split(/[\r\n]/).map((line) => line.trim()).filter(Boolean).map((line) => {
    const at = line.indexOf('=');
    return at < 0 ? [line, ''] : [line.slice(0, at), line.slice(at + 1)];
  });
  return Object.fromEntries(pairs);
}

// lineOf is a label as a line; null for one that would be read as another one, or as several: with a line break, a
// blank at an end, or = in its key.
function lineOf([key, value]) {
  const line = `${key}=${value}`;
  const again = Object.entries(labelsOf(line));
  return again.length === 1 && again[0][0] === key && again[0][1] === value ? line : null;
}

function save(c) {
  const prefix = el('input', { id: 'save-prefix', placeholder: 'on-demand' });
  const text = el('textarea', { id: 'save-labels', rows: 2, placeholder: 'key=value' });
  const backends = boxes(c.backends.map((b) => b.name));
  askFirst(`Save ${c.name} now`, [field('First part of the name', prefix), field('Labels, one a line', text), backends.set,
    el('p', { class: 'quiet' }, 'The save belongs to this page: it is cancelled when the page is closed.')], 'Save', async (report) => {
    const answer = await change('POST', `${snapshots(c.name)}:save`, { namePrefix: prefix.value, labels: labelsOf(text.value), backends: backends.chosen() });
    changed(answer.snapshot);
    report(el('p', {}, stateBadge(answer.snapshot.state), ' ', mono(answer.snapshot.name)), ...answer.warnings.map((w) => el('p', { class: 'notice attention' }, w)));
  });
}

// reconcile shows what would change before anything does. An error may come with what was found, or done, all the same.
function reconcile(c) {
  const repair = el('input', { type: 'checkbox', id: 'repair' });
  const call = async (report, were, body) => {
    try {
      report(...reconciled(await change('POST', `${snapshots(c.name)}:reconcile`, body), were));
    } catch (e) {
      const found = e instanceof Problem && e.detail('backends');
      if (!found) throw e;
      report(problemBox(e), ...reconciled(found, were));
    }
  };
  askFirst(`Reconcile ${c.name}`, [el('p', {}, 'Holds the catalog against the backends.'),
    el('label', {}, repair, ' also copy what is missing on a backend (repair)')], 'Show what would change', async (report) => {
    await call(report, 'would be', { validateOnly: true, repair: repair.checked });
    return ['Reconcile', async (told) => {
      await call(told, 'were', { repair: repair.checked });
      changed();
    }];
  });
}

function reconciled(answer, were) {
  const rows = answer.backends.map((b) => row(b.backend, b.listed, b.unchanged, b.added, b.updated, b.removed, b.repaired, b.swept, b.foreign,
    b.error ? problemBox(b.error) : badge('safe', 'OK')));
  return [el('p', {}, `The locations that ${were} changed:`),
    table('Result', ['Backend', 'Listed', 'Unchanged', 'Added', 'Updated', 'Removed', 'Repaired', 'Swept', 'Foreign', 'Result'], rows),
    // A replica of an older version says nothing of the journal.
    ...(answer.journal || []).map((j) => copied(j, were)).filter(Boolean),
    ...(answer.unreadable || []).map((u) => el('p', { class: 'notice attention' }, `${u.key}: ${u.error}`))];
}

// copied says what was done for the journal on a backend, and what is left; null when there is nothing to say.
function copied(j, were) {
  const said = [
    Number(j.segments) && `segments that ${were} copied there: ${j.segments} (${size(j.sizeBytes)})`,
    Number(j.lackingRevisions) && `revisions that another backend has and it lacks: ${j.lackingRevisions}`,
    Number(j.damagedSegments) && `damaged segments: ${j.damagedSegments}`,
  ].filter(Boolean);
  if (j.error) return problemBox(j.error);
  return said.length ? el('p', {}, `Journal on ${j.backend}: ${said.join('; ')}.`) : null;
}

// prune shows what would go, and why the others stay, before anything goes.
function prune(c) {
  const call = (validateOnly) => change('POST', `${snapshots(c.name)}:prune`, { validateOnly });
  askFirst(`Prune ${c.name}`, [el('p', {}, 'Applies the retention of each backend now.')], 'Show what would go', async (report) => {
    const plan = await call(true);
    report(...pruned(plan.decisions, { gone: 'would go', cannot: 'cannot be removed', word: 'GOES' }), ...journalGoes(plan.journal || []));
    if (!plan.decisions.some(goes)) return null;
    return ['Remove them', async (told) => {
      try {
        const answer = await call(false);
        changed();
        told(...pruned(answer.decisions, { gone: 'removed', cannot: 'could not be removed', word: 'GONE' }));
      } catch (e) { // it removed nothing, or ended early: copies come with the error, as many as there was room for
        const found = e instanceof Problem && e.detail('decisions');
        if (!found) throw e;
        if (found.decisions.some(goes)) changed();
        told(problemBox(e), attempted(found.decisions));
      }
    }];
  });
}

// attempted shows the copies of a prune that has failed: those that were removed before, and those that could not be.
const attempted = (all) => table('Decisions', ['Name', 'Backend', 'Size', 'Decision', 'Why'],
  all.map((d) => row(mono(d.name), d.backend, size(d.sizeBytes), goes(d) ? badge('attention', 'GONE') : badge('danger', 'FAILED'),
    [d.why, d.error ? problemBox(d.error) : null])));

const goes = (d) => !d.stays && !d.error;

// pruned shows which copies go. One with an error stays though no rule keeps it.
function pruned(decisions, { gone, cannot, word }) {
  const failed = decisions.filter((d) => d.error);
  const going = decisions.filter(goes);
  const kept = decisions.filter((d) => d.stays && !d.error);
  const some = [...failed, ...going, ...kept].slice(0, 200);
  const told = (all, what) => `${several(all.length, 'copy', 'copies')} ${what}, ${size(all.reduce((n, d) => n + Number(d.sizeBytes), 0))}`;
  const verdict = (d) => {
    if (d.error) return d.stays ? badge('attention', 'LOCKED') : badge('danger', 'FAILED');
    return d.stays ? badge('', 'STAYS') : badge('attention', word);
  };
  return [failed.length ? el('p', { class: 'notice danger' }, `${told(failed, cannot)}.`) : null,
    el('p', {}, `${told(going, gone)}; ${kept.length} stay.`,
      some.length < decisions.length ? ` The first ${some.length} are shown: snapshotd prune --dry-run shows all.` : ''),
    table('Decisions', ['Name', 'Backend', 'Size', 'Decision', 'Why'], some.map((d) => row(mono(d.name), d.backend, size(d.sizeBytes), verdict(d),
      [d.why, d.error ? problemBox(d.error) : null])))].filter(Boolean);
}

// journalGoes is what the leader removes of the journal by itself.
const journalGoes = (all) => all.map((j) => (j.error
  ? el('p', { class: 'notice attention' }, `It is not known which segments of the journal go: ${stopped(j.error.message)}`)
  : el('p', {}, `The leader removes within the hour from the journal on ${j.backend}: ${several(Number(j.segments), 'segment')} (${size(j.sizeBytes)}) `,
    `with the revisions ${count(j.firstRevision)} to ${count(j.lastRevision)} of `, mono(j.timeline), `: ${stopped(j.why)}`)));

function verify(s) {
  const level = choice('verify-level', [['LEVEL_CHECKSUM', 'checksum: read every byte back'],
    ['LEVEL_STRUCTURE', 'structure: read every page and key'], ['LEVEL_DRILL', 'drill: restore it into a throw-away etcd']]);
  const backend = choice('verify-backend', [['', ''], ...s.locations.map((l) => [l.backend, l.backend])]);
  const without = () => setText(backend.options[0], // all have the same bytes, which CHECKSUM alone compares
    level.value === 'LEVEL_CHECKSUM' ? 'every copy that is READY' : 'the first that is READY');
  level.addEventListener('change', without);
  without();
  askFirst(`Verify ${s.name}`, [field('Level', level), field('Copies to read', backend)], 'Verify', async (report) => {
    let verdict = null;
    const bar = el('progress', { 'aria-label': 'read back' });
    const text = el('span', {}, 'Reading…');
    report(el('p', {}, bar, ' ', text));
    try {
      await lines('POST', `${path(s)}:verify`, { level: level.value, backend: backend.value }, (m) => {
        if (m.snapshot) verdict = m.snapshot;
        else if (Number(m.totalBytes)) {
          bar.max = Number(m.totalBytes);
          bar.value = Number(m.doneBytes);
          text.textContent = `${size(m.doneBytes)} of ${size(m.totalBytes)} on ${m.backend}`;
        }
      });
    } finally {
      reread(s.cluster, s.name); // a copy that is damaged is an error, and the verdict is kept
      look();
    }
    if (!verdict) throw new Problem('', 'the answer ended without a verdict, so nothing is known: verify it again');
    changed(verdict);
    report(el('p', {}, stateBadge(verdict.verification.state), ` ${verdict.verification.backends.join(', ')}`));
  });
}

async function pin(s, pinned) {
  await askFirst(pinned ? `Pin ${s.name}` : `Unpin ${s.name}`, [el('p', {}, pinned
    ? 'Retention leaves a pinned snapshot alone, and it cannot be deleted.' : 'Retention may remove it then, and it can be deleted.')],
  pinned ? 'Pin' : 'Unpin', (report) => update(s, 'pinned', { pinned }, report));
}

// labels sets the labels that are lines. The others, which another program has given it, are sent as they are.
function labels(s) {
  const all = Object.entries(s.labels || {}).sort();
  const others = Object.fromEntries(all.filter((label) => !lineOf(label)));
  const keys = Object.keys(others).map((key) => JSON.stringify(key));
  const text = el('textarea', { id: 'labels', rows: 6 });
  text.value = all.map(lineOf).filter(Boolean).join('\n');
  const body = [field('Labels, key=value, one a line', text)];
  if (keys.length) {
    body.push(el('p', { class: 'notice attention' }, 'These labels cannot be written as a line (a line break, a blank at an ' +
      `end, or = in the key), and stay as they are: ${keys.join(', ')}. To remove one, use snapshotd update --remove-label; ` +
      'to change one, use the API.'));
  }
  const wanted = () => ({ labels: { ...others, ...labelsOf(text.value) } });
  askFirst(`Labels of ${s.name}`, body, 'Set', (report) => update(s, 'labels', wanted(), report));
}

// update changes a snapshot if nobody else has since the page has read it.
async function update(s, mask, fields, report) {
  try {
    const answer = await change('PATCH', `${path(s)}?updateMask=${mask}`, { ...fields, etag: s.etag });
    changed(answer.snapshot);
    report(el('p', {}, badge('safe', 'DONE')));
  } finally {
    reread(s.cluster, s.name);
    look();
  }
}

// remove deletes a snapshot, after its name was typed.
function remove(s) {
  const name = el('input', { id: 'delete-name', autocomplete: 'off', spellcheck: 'false' });
  const backends = boxes(s.locations.map((l) => l.backend));
  const done = askFirst(`Delete ${s.name}`, [el('p', { class: 'notice danger' }, 'It is gone for good on the chosen backends.'), backends.set,
    field(`Type its name to delete it: ${s.name}`, name)], 'Delete', async (report) => {
    const query = new URLSearchParams(s.etag ? { etag: s.etag } : {});
    backends.chosen().forEach((b) => query.append('backends', b));
    let left;
    try {
      left = (await change('DELETE', `${path(s)}?${query}`)).snapshot;
    } catch (e) {
      reread(s.cluster, s.name);
      look();
      const detail = e instanceof Problem && e.detail('locations');
      if (!detail || detail.etag === s.etag || e.reason === 'ETAG_MISMATCH') throw e; // nothing was removed
      report(problemBox(e), ...halfRemoved(detail, backends.chosen()));
      return;
    }
    reread(s.cluster, s.name);
    if (left && left.locations.length) {
      changed(left);
      report(el('p', {}, `It is left on ${left.locations.map((l) => l.backend).join(', ')}.`));
      return;
    }
    drop(s.cluster, s.name);
    const { cluster, snapshot: shown } = place();
    if (cluster === s.cluster && shown === s.name) location.hash = toCluster(s.cluster);
    look();
    report(el('p', {}, badge('safe', 'DELETED'), ' ', mono(s.name)));
  });
  const allow = () => { done.disabled = name.value !== s.name; };
  name.addEventListener('input', allow);
  allow();
}

// halfRemoved says which copies are left after a removal that has failed on some of the chosen backends. None chosen is
// all.
function halfRemoved({ locations }, chosen) {
  const names = (all) => all.map((l) => l.backend).join(', ');
  const begun = locations.filter((l) => l.state === 'STATE_DELETING');
  const untouched = locations.filter((l) => !begun.includes(l) && (!chosen.length || chosen.includes(l.backend)));
  const now = locations.flatMap((l) => [l.backend, ' ', stateBadge(l.state), ' ']);
  return [el('p', {}, 'Its copies now: ', ...(now.length ? now : ['none'])),
    untouched.length ? el('p', {}, `Its removal from ${names(untouched)} has not begun: delete it again.`) : null,
    begun.length ? el('p', {}, `Its removal from ${names(begun)} has begun, and reconcile goes on with it.`) : null,
  ].filter(Boolean);
}

// download asks whether the snapshot can be read before the browser fetches it, so that an error is seen as it is.
function download(s) {
  const kind = choice('download-kind', [['true', 'the database, as etcdutl takes it'], ['false', 'the bytes as they are stored']]);
  const backend = choice('download-backend', [['', 'any'], ...s.locations.map((l) => [l.backend, l.backend])]);
  askFirst(`Download ${s.name}`, [field('Content', kind), field('From', backend)], 'Download', async (report) => {
    const query = new URLSearchParams({ decoded: kind.value, ...(backend.value ? { backend: backend.value } : {}) });
    let header = null;
    await lines('GET', `${path(s)}:download?${query}`, null, (m) => {
      header = m.header;
      return true;
    });
    query.set('cluster', s.cluster);
    query.set('name', s.name);
    const link = el('a', { href: `/console/download?${query}`, download: header.fileName }, header.fileName);
    report(el('p', {}, link, `, ${size(header.totalBytes)}, from ${header.backend}`), ...checksum(header));
    link.click();
  });
}

// checksum is what the file must have, and the command that computes it. Behind a database is etcd's own checksum, which is
// none of the bytes that were counted.
function checksum(h) {
  const file = quote(h.fileName);
  const more = Number(h.totalBytes) - Number(h.sha256Bytes);
  return [el('p', {}, more ? `The sha256 without etcd's ${more} bytes of checksum at its end must be ` : 'Its sha256 must be ', mono(h.sha256), ':'),
    commandLine(more ? `head -c ${h.sha256Bytes} ${file} | sha256sum` : `sha256sum ${file}`)];
}
