// The clusters, worst first.

import { card } from './card.js';
import { reach } from './commands.js';
import { $, keyed } from './dom.js';
import { showMoving } from './moving.js';
import { badge } from './pieces.js';
import { state } from './state.js';
import { rank, words } from './words.js';

export function showClusters(o) {
  showFleet(o);
  const sorted = [...o.clusters].sort((a, b) => rank.indexOf(a.verdict) - rank.indexOf(b.verdict));
  const signature = (c) => JSON.stringify([c, state.stale, reach()]);
  keyed($('clusters'), sorted.map((c) => [c.name, signature(c), () => card(c, o.clusters.length)]));
  o.clusters.forEach((c) => showMoving(c.name));
}

function showFleet(o) {
  const counts = rank.map((v) => [o.clusters.filter((c) => c.verdict === v).length, v]).filter(([n]) => n);
  $('fleet').hidden = o.clusters.length < 2;
  $('fleet').replaceChildren(`${o.clusters.length} clusters${state.stale ? ', as they were' : ''}: `,
    ...counts.flatMap(([n, v]) => [badge(v, `${n} ${words[v]}`), ' ']));
}
