// The last answers, and the choices of the person: the one thing that the modules of the page share.

const fresh = 35000; // milliseconds: older answers are not current

export const every = 10000; // milliseconds between two refreshes without an event

export const state = {
  service: null, // about the service: version, address, where its traces are
  clusters: null, // the last answer of ClusterService
  roles: new Map(), // of the caller, by cluster
  caller: null,
  asked: 0, // when, by this browser's clock
  took: 0, // milliseconds until all of it was answered
  skew: 0, // milliseconds that the service's clock is ahead of this browser's
  problem: null, // why the last refresh failed; null when it succeeded
  firstVersion: '', // of the service, when the page was loaded
  live: false, // events arrive
  moving: new Map(), // by cluster: the last events of the save on this replica, by backend
  known: new Map(), // by cluster: the last answer with a catalog that could be read, and its time
  lists: new Map(), // by cluster: its snapshots, as far as they were asked for
  unfolded: new Map(), // by part of the page: open or not, if the person has changed it
  stale: null, // the page shows the past
};

export const now = () => Date.now() + state.skew; // by the service's clock
export const isFresh = (at, more = 0) => Math.abs(Date.now() - at) < fresh + more; // by this browser's clock

// isStale reports whether what is shown is of the past. The answer came some time after it was asked for, and the next
// one takes as long again: with many clusters, each page waits for those that do not answer.
export const isStale = () => Boolean(state.problem) || !isFresh(state.asked, 2 * state.took);

export const clusterOf = (name) => (state.clusters || []).find((c) => c.name === name);

const ranks = ['ROLE_UNSPECIFIED', 'ROLE_VIEWER', 'ROLE_OPERATOR', 'ROLE_ADMIN'];

// may reports whether the caller has a role on a cluster. The service decides; the page only hides what it would refuse.
export const may = (role, cluster) => ranks.indexOf(state.roles.get(cluster)) >= ranks.indexOf(role);
