// Pictures of the snapshots over time, drawn as SVG.

import { el, setText, svg } from './dom.js';
import { now } from './state.js';
import { minute, plain, several, span } from './words.js';

const left = 64; // for the words beside a picture
const right = 12;
const lanes = [['STATE_READY', 'READY', 'safe'], ['STATE_PARTIAL', 'PARTIAL', 'attention'], ['STATE_FAILED', 'FAILED', 'danger']];
const lane = 16; // pixels

// axis maps times to places between the ends of a picture.
function axis(from, until, width) {
  const scale = (width - left - right) / Math.max(1, until - from);
  return (at) => left + (at - from) * scale;
}

const day = 1440; // minutes
const steps = [1, 5, 15, 30, 60, 180, 360, 720, day, 2 * day, 7 * day, 14 * day, 30 * day, 90 * day, 365 * day].map((m) => m * 60000);

// ticks are round times, in words below a picture. The first one has its day, and so has each midnight.
function ticks(from, until, width, y) {
  const most = Math.max(2, Math.floor(width / 110));
  const step = steps.find((s) => (until - from) / s <= most) || steps[steps.length - 1];
  const first = Math.ceil(from / step) * step;
  const x = axis(from, until, width);
  const words = (at) => {
    if (step >= 90 * day * 60000) return minute(at).slice(0, 7);
    if (at % (day * 60000) === 0) return minute(at).slice(5, 10);
    return at === first ? minute(at).slice(5) : minute(at).slice(11);
  };
  return Array.from({ length: Math.max(0, Math.floor((until - first) / step) + 1) }, (_, i) => first + i * step).map((at) => svg('text', {
    x: Math.min(x(at), width), y, class: 'tick', 'text-anchor': x(at) > width - 40 ? 'end' : 'middle',
  }, words(at)));
}

// timeline shows when snapshots were taken and how that ended, the gaps, and the next run of each schedule.
export function timeline(snapshots, schedules, since, width) {
  const next = schedules.map((s) => Date.parse(s.nextTime)).filter((t) => t > now());
  const times = snapshots.map((s) => Date.parse(s.createTime));
  const from = since || (times.length ? times[0] : now() - 86400000);
  const soonest = next.length ? Math.min(...next) : now();
  const until = Math.max(now(), Math.min(soonest, now() + (now() - from) / 4)) + (now() - from) / 50;
  const x = axis(from, until, width);
  const height = lanes.length * lane;
  const gaps = missed(schedules, from);
  const parts = [
    ...gaps.flatMap((g) => gap(x(Math.max(g.from, from)), x(g.until), height, g)),
    ...lanes.flatMap(([state, word, kind], i) => [
      svg('text', { x: 0, y: i * lane + 12, class: 'tick' }, word),
      svg('line', { x1: left, x2: width - right, y1: (i + 1) * lane, y2: (i + 1) * lane, class: 'grid' }),
      ...columns(snapshots.filter((s) => s.state === state), x).map((at) => svg('rect', { x: at - 1, y: i * lane + 2, width: 3, height: lane - 4, class: kind })),
    ]),
    svg('line', { x1: x(now()), x2: x(now()), y1: 0, y2: height, class: 'now' }),
    ...(soonest > now() && soonest <= until ? [svg('line', { x1: x(soonest), x2: x(soonest), y1: 0, y2: height, class: 'next' })] : []),
    ...ticks(from, until, width, height + 16),
  ];
  const counts = lanes.map(([state, word]) => `${snapshots.filter((s) => s.state === state).length} ${word}`);
  const said = [`${counts.join(', ')}`, gapText(gaps), next.length ? `next run ${minute(soonest)} UTC, in ${span(soonest - now())}` : ''].filter(Boolean);
  const points = snapshots.map((s, i) => ({ at: x(times[i]), text: () => `${s.name}: ${plain(s.state)}, ${minute(times[i])} UTC` }));
  return figure(`Timeline: ${said.join('; ')}`, [`${said.join('; ')}.`], width, height, parts, points);
}

// figure is a picture with its caption. Where the pointer is, the nearest of the points has its text in the caption; a
// screen reader has the list of all.
function figure(label, caption, width, height, parts, points) {
  const line = svg('line', { y1: 0, y2: height, class: 'at', visibility: 'hidden' });
  const said = el('span', { class: 'at', 'aria-hidden': 'true' });
  const drawn = picture(label, width, height + 20, [...parts, line]);
  drawn.addEventListener('pointermove', (e) => {
    const x = (e.clientX - drawn.getBoundingClientRect().left) * (width / drawn.clientWidth);
    const nearest = points.reduce((best, p) => (best && Math.abs(best.at - x) <= Math.abs(p.at - x) ? best : p), null);
    if (!nearest) return;
    for (const end of ['x1', 'x2']) line.setAttribute(end, nearest.at);
    line.setAttribute('visibility', 'visible');
    setText(said, nearest.text());
  });
  drawn.addEventListener('pointerleave', () => {
    line.setAttribute('visibility', 'hidden');
    setText(said, '');
  });
  return el('figure', {}, el('figcaption', {}, ...caption, ' ', said), drawn);
}

const picture = (label, width, height, parts) => svg('svg', { role: 'img', 'aria-label': label, viewBox: `0 0 ${width} ${height}`, width, height }, ...parts);

// columns are the places of snapshots, one for each pixel: there may be thousands.
const columns = (snapshots, x) => [...new Set(snapshots.map((s) => Math.round(x(Date.parse(s.createTime)))))];

// missed returns the runs of schedules that left no snapshot, each from when the first of them was due until the next snapshot, or now.
function missed(schedules, since) {
  return schedules.flatMap((s) => (s.missed || []).map((m) => ({
    name: s.name, runs: Number(m.runs), from: Date.parse(m.startTime), until: m.endTime ? Date.parse(m.endTime) : now(), over: Boolean(m.endTime),
  }))).filter((g) => g.until > since);
}

function gapText(gaps) {
  return gaps.length > 4
    ? `${several(gaps.length, 'gap')}, ${several(gaps.reduce((n, g) => n + g.runs, 0), 'run')} without a snapshot`
    : gaps.map((g) => `${g.name}: no snapshot of ${several(g.runs, 'run')} from ${minute(g.from)}${g.over ? ` to ${minute(g.until)}` : ''} UTC`).join('; ');
}

function gap(a, b, height, { name, runs }) {
  const wide = b - a > 120;
  return [svg('rect', { x: a, y: 0, width: Math.max(1, b - a), height, class: 'gap' }),
    ...(wide ? [svg('text', { x: (a + b) / 2, y: height / 2 + 4, class: 'tick', 'text-anchor': 'middle' }, `${name}: none of ${runs}`)] : [])];
}

// lineChart shows numbers over time: each series is a name and its points, oldest first.
export function lineChart(title, series, text, width) {
  const all = series.flatMap(([, points]) => points);
  if (all.length < 2) return el('figure', {}, el('figcaption', {}, `${title}: too few snapshots for a picture.`));
  const height = 120;
  const from = Math.min(...series.filter(([, p]) => p.length).map(([, points]) => points[0].at));
  const until = Math.max(...series.filter(([, p]) => p.length).map(([, points]) => points[points.length - 1].at));
  const most = all.reduce((m, p) => Math.max(m, p.value), 0);
  const x = axis(from, until, width);
  const y = (v) => height - (v / most) * (height - 10);
  const lines = series.map(([, points], i) => svg('polyline', {
    points: peaks(points, x).map(([px, v]) => `${px},${y(v).toFixed(1)}`).join(' '), class: `series s${i}`,
  }));
  const grid = [0, 0.5, 1].map((share) => [
    svg('line', { x1: left, x2: width - right, y1: y(share * most), y2: y(share * most), class: 'grid' }),
    svg('text', { x: 0, y: y(share * most) + 4, class: 'tick' }, share ? text(share * most) : '0'),
  ]).flat();
  const last = series.filter(([, p]) => p.length).map(([name, points]) => `${name} ${text(points[points.length - 1].value)}`);
  const label = `${title}: ${last.join(', ')} now, at most ${text(most)}`;
  const legend = series.length > 1 ? series.map(([name], i) => el('span', { class: `legend s${i}` }, name)) : [];
  const times = [...new Set(all.map((p) => p.at))];
  const told = (at) => series.map(([name, of]) => [name, of.find((p) => p.at === at)]).filter(([, p]) => p)
    .map(([name, p]) => `${name} ${text(p.value)}`).join(', ');
  return figure(label, [`${label}. `, ...legend], width, height, [...grid, ...lines, ...ticks(from, until, width, height + 16)],
    times.map((at) => ({ at: x(at), text: () => `${minute(at)} UTC: ${told(at)}` })));
}

// peaks returns the points of a line, one for each pixel: the largest of those that share it.
function peaks(points, x) {
  const columns = new Map();
  for (const p of points) {
    const px = Math.round(x(p.at));
    columns.set(px, Math.max(columns.get(px) || 0, p.value));
  }
  return [...columns].sort((a, b) => a[0] - b[0]);
}
