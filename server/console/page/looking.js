// When the service is asked: now and then, and when something has happened.

import { glance, list, Problem } from './asking.js';
import { show, tick } from './show.js';
import { every, state } from './state.js';

let looking = false;
let again = false;
let timer = 0;

// look asks for all that is shown, and shows it.
export async function look() {
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  rest();
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
  rest();
  if (!document.hidden) timer = setTimeout(look, every);
}

// soon looks when what comes at once has come.
export function soon() {
  rest();
  if (looking) again = true;
  else timer = setTimeout(look, 300);
}

// rest looks no more by itself.
export function rest() {
  clearTimeout(timer);
}
