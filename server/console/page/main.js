// The console: asks /v1/clusters how the clusters are and /v1/ for the rest, follows /v1/events, and shows how old the
// facts are. Text from the service is written by others, and becomes text, never markup.

import { followed } from './address.js';
import { logOut } from './asking.js';
import { $ } from './dom.js';
import { look, rest } from './looking.js';
import { show, tick } from './show.js';
import { every, state } from './state.js';

// wake starts everything again when the page becomes visible, and stops it when it is hidden.
async function wake() {
  if (document.hidden) rest();
  else await look(); // first of all
  tick();
  try {
    const { follow, unfollow } = await import('./events.js');
    if (document.hidden) unfollow();
    else follow();
  } catch { // the module has not arrived
    setTimeout(() => { if (!document.hidden) wake(); }, every);
  }
}

addEventListener('hashchange', () => { // not by the person's own choices in the view
  followed();
  state.unfolded.clear();
  show();
});
addEventListener('resize', () => requestAnimationFrame(show)); // the pictures are as wide as the page
document.addEventListener('visibilitychange', wake);
addEventListener('pageshow', (e) => { if (e.persisted) wake(); });
addEventListener('online', wake);
document.querySelector('.skip').addEventListener('click', (e) => { // the address is of the view, and not of a part of the page
  e.preventDefault();
  $('view').focus();
});
$('logout').addEventListener('click', () => logOut().catch(look)); // which says why, when the service is away
setInterval(tick, 1000);
wake();
