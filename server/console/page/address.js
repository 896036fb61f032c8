// The address: what is shown is in its part after '#', so that a link leads to the same view.
//
//   #/                                     all clusters
//   #/clusters/NAME                        one cluster, with its snapshots
//   #/clusters/NAME/snapshots/SNAPSHOT     one snapshot

// place returns what the address names.
export function place() {
  const [path, query] = location.hash.replace(/^#/, '').split('?');
  const [, clusters, cluster, snapshots, snapshot] = path.split('/').map(decoded);
  const choices = new URLSearchParams(query || '');
  if (clusters !== 'clusters' || !cluster) return { view: 'overview', choices };
  if (snapshots !== 'snapshots' || !snapshot) return { view: 'cluster', cluster, choices };
  return { view: 'snapshot', cluster, snapshot, choices };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // somebody wrote it by hand
  }
}

export const toOverview = () => '#/';
export const toCluster = (name, choices) => `#/clusters/${encodeURIComponent(name)}${choices ? `?${new URLSearchParams(choices)}` : ''}`;
export const toSnapshot = (cluster, name) => `${toCluster(cluster)}/snapshots/${encodeURIComponent(name)}`;

// choose puts a choice into the address. The view stays, and so does the place in the history: the address is for links.
export function choose(name, value) {
  const { choices } = place();
  if (value) choices.set(name, value);
  else choices.delete(name);
  const [path] = location.hash.split('?');
  const query = String(choices);
  history.replaceState(null, '', `${path || '#/'}${query ? `?${query}` : ''}`);
}
