// When the service is asked: now and then, and when something has happened.

import { glance, list, Problem } from './asking.js';
import { show } from './show.js';
import { every, state } from './state.js';

let looking = false;
let again = false; // whether what is looked at is no longer what was chosen
let hurry = false; // whether something has happened since the last look began
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
    hurry = false;
    try {
      await glance();
      if (!state.problem) await list();
      show();
    } catch (e) { // a defect of the page must not look like good news; tick says it, and might meet the same defect here
      state.problem = new Problem('', `this page cannot show what the service has said: ${e.message}`);
    }
  } while (again);
  looking = false;
  plan();
}

function plan() {
  rest();
  if (!document.hidden) timer = setTimeout(look, hurry ? 300 : every);
}

// soon looks when what comes at once has come.
export function soon() {
  if (hurry) return; // or what goes on happening would put it off for ever
  hurry = true;
  if (!looking) plan();
}

// rest looks no more by itself.
export function rest() {
  clearTimeout(timer);
}
