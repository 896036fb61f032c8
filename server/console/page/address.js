// The address: what is shown is in its part after '#', so that a link leads to the same view.
//
//   #/                                     all clusters
//   #/clusters/NAME                        one cluster, with its snapshots
//   #/clusters/NAME/snapshots/SNAPSHOT     one snapshot

let links = 0; // addresses that were not made by the person's own choices

// followed notes that the person has come by a link: the fields must show what it chooses.
export const followed = () => { links++; };

// place returns what the address names, and by which link it was reached.
export function place() {
  const [path, query] = location.hash.replace(/^#/, '').split('?');
  const [, clusters, cluster, snapshots, snapshot] = path.split('/').map(decoded);
  const choices = new URLSearchParams(query || '');
  const at = { choices, opened: new Set((choices.get('open') || '').split(',').filter(Boolean)), link: links };
  if (clusters !== 'clusters' || !cluster) return { ...at, view: 'overview' };
  if (snapshots !== 'snapshots' || !snapshot) return { ...at, view: 'cluster', cluster };
  return { ...at, view: 'snapshot', cluster, snapshot };
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

// remember puts into the address what is open.
export function remember(name, open) {
  const { opened } = place();
  if (open) opened.add(name);
  else opened.delete(name);
  choose('open', [...opened].join(','));
}
