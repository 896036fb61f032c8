// When the service is asked: on an interval, and after events.

import { glance, Problem } from './asking.js';
import { show } from './show.js';
import { every, state } from './state.js';

const collected = 300; // milliseconds, in which events that arrive together ask for one refresh
const least = 3000; // between the end of a refresh and the next one for an event: it asks for all clusters

let looking = false;
let ended = -least; // when the last refresh did, by a clock that nobody sets
let again = false; // something was chosen since the refresh under way began
let hurry = false; // an event has arrived since the last refresh began
let timer = 0;

// look refreshes all that is shown.
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
      show();
    } catch (e) { // a defect of the page must not look like good news; tick says it, and might meet the same defect here
      state.problem = new Problem('', `this page cannot show what the service has said: ${e.message}`);
    }
  } while (again);
  looking = false;
  ended = performance.now();
  plan();
}

function plan() {
  rest();
  const wait = hurry ? Math.max(collected, ended + least - performance.now()) : every;
  if (!document.hidden) timer = setTimeout(look, wait);
}

// soon refreshes after an event.
export function soon() {
  if (hurry) return; // otherwise a steady stream of events would delay it for ever
  hurry = true;
  if (!looking) plan();
}

// rest stops the refreshes by interval.
export function rest() {
  clearTimeout(timer);
}
