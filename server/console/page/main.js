// The console: asks /console/overview for the verdicts and /v1/ for the list, follows /v1/events, and shows how old the
// facts are. Text from the service is written by others, and becomes text, never markup.

import { $ } from './dom.js';
import { follow, unfollow } from './events.js';
import { look, rest } from './looking.js';
import { tick } from './show.js';
import { mostRows, page, state } from './state.js';

function anew() {
  state.rows = page;
  $('rows').replaceChildren();
  state.listed = null;
  look();
}

function more() {
  state.rows = Math.min(mostRows, state.rows + page);
  look();
}

// wake starts everything again when the page becomes visible, and stops it when it is hidden.
function wake() {
  if (document.hidden) {
    rest();
    unfollow();
  } else {
    look();
    follow();
  }
  tick();
}

for (const id of ['cluster', 'state', 'until']) $(id).addEventListener('change', anew);
$('more').addEventListener('click', more);
document.addEventListener('visibilitychange', wake);
addEventListener('pageshow', (e) => { if (e.persisted) wake(); });
addEventListener('online', wake);
setInterval(tick, 1000);
look();
follow();
