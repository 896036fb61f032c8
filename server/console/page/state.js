// The last answers, and the choices of the person: the one thing that the modules of the page share.

const fresh = 35000; // milliseconds: older answers are not current

export const every = 10000; // milliseconds between two refreshes without an event
export const page = 50; // rows at first, and with each "Show more"
export const mostRows = 1000;

export const state = {
  overview: null, // the last one
  asked: 0, // when, by this browser's clock
  skew: 0, // milliseconds that the service's clock is ahead of this browser's
  problem: null, // why the last refresh failed; null when it succeeded
  firstVersion: '', // of the service, when the page was loaded
  listed: null, // the last list, with its cluster and time
  listProblem: null,
  live: false, // events arrive
  moving: new Map(), // by cluster: the progress of a save on this replica
  rows: page,
  known: new Map(), // by cluster: the last answer with a catalog that could be read, and its time
  open: new Set(), // rows whose details are shown
  unfolded: new Map(), // by card or part of one: open or not, if the person has changed it
  stale: null, // the page shows the past
};

export const now = () => Date.now() + state.skew; // by the service's clock
export const isFresh = (at) => Math.abs(Date.now() - at) < fresh; // by this browser's clock
export const isStale = () => Boolean(state.problem) || !isFresh(state.asked);
