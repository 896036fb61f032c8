// What was heard last, and what the person has chosen: the one thing that the modules of the page share.

const fresh = 35000; // milliseconds: what is older is not current, whatever was heard

export const every = 10000; // milliseconds between two looks when no event asks for one
export const page = 50; // rows at first, and that "Show more" adds
export const mostRows = 1000;

export const state = {
  overview: null, // as it was heard last
  asked: 0, // when, by this browser's clock
  skew: 0, // milliseconds that the service's clock is ahead of this browser's
  problem: null, // why the last look failed; null when it went well
  firstVersion: '', // of the service, when the page was loaded
  listed: null, // the list as it was heard last, with the cluster and the time
  listProblem: null,
  live: false, // whether events are coming in
  moving: new Map(), // by cluster: the progress of a save that this replica does
  rows: page,
  known: new Map(), // by cluster: what its catalog said when it was read last, and when
  open: new Set(), // rows whose details are shown
  unfolded: new Map(), // by what can be folded of the cards: whether it is open, when somebody has said so
  stale: null, // whether all is shown as what it was
};

export const now = () => Date.now() + state.skew; // by the service's clock
export const isFresh = (at) => Math.abs(Date.now() - at) < fresh; // by this browser's clock
export const isStale = () => Boolean(state.problem) || !isFresh(state.asked);
