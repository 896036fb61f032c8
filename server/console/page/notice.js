// Whether the page is current, and help when it is not.

import { $, el, setText } from './dom.js';
import { place } from './address.js';
import { withoutService } from './commands.js';
import { commandLine } from './pieces.js';
import { clusterOf, every, state } from './state.js';
import { kindOf, marks, rank, sentence, span, utc, visible, words } from './words.js';

const refusals = {
  CERTIFICATE_REQUIRED: [
    'Import a client certificate of the CA of tls.client_ca into this browser, with its key (most take a .p12 file), ' +
      'and load this page again.',
  ],
  LOCAL_ONLY: [
    'Bring the port to your machine: ssh -L 7380:127.0.0.1:PORT HOST, with the port and host of this page, ' +
      'and open http://localhost:7380/ here.',
    'Or let gRPC listen on another address (--listen-grpc), with TLS and client certificates.',
  ],
  UNAUTHENTICATED: [
    'Import a client certificate for which access.rules has a role into this browser, with its key (most take a .p12 file), ' +
      'and load this page again. A token works with snapshotd status --token-file alone.',
  ],
  ROLE_MISSING: ['Ask for the role that the message names: access.rules of the configuration gives it.'],
  FOREIGN_HOST: [
    'Open this page as http://localhost:PORT/ or http://127.0.0.1:PORT/, over ssh -L if need be. ' +
      'A proxy before the service must ask for it by that name.',
  ],
};

// outage is what helps when the service does not answer: the backends are known from the last answer.
function outage() {
  const c = clusterOf(place().cluster) || (state.clusters || [])[0];
  const commands = c ? withoutService(c) : ['snapshotd list --from URL', 'snapshotd restore latest --from URL --data-dir DIR --dry-run'];
  const others = c && place().view === 'overview' && state.clusters.length > 1 ? ' The commands for the other clusters are below, in each of them.' : '';
  return ['Does it run? systemctl status snapshotd, or kubectl get pods, and its log.',
    { text: `Restoring needs no service.${others} List the snapshots${c ? ` of ${c.name}` : ''}, then plan the restore of the newest one:`, commands }];
}

const refused = () => Boolean(state.problem) && Object.hasOwn(refusals, state.problem.reason);

// showLink shows at the top, and in the title, from when the facts are.
export function showLink(stale) {
  const [kind, mark, text] = link(stale);
  $('link').className = `link ${kind}`;
  setText($('link').firstElementChild, mark);
  setText($('link-text'), text);
  document.title = `${title(stale)} · snapshotd`;
}

function link(stale) {
  if (refused()) return ['danger', '✖', 'REFUSED'];
  if (!state.asked) return state.problem ? ['danger', '✖', 'NOT CONNECTED'] : ['', '○', 'Asking…'];
  const at = utc(state.asked + state.skew).slice(11);
  if (stale) return ['danger', '✖', `NOT CURRENT: as of ${at}, ${span(Date.now() - state.asked)} ago`];
  if (state.live) return ['safe', '●', `Live, as of ${at}`];
  return ['attention', '●', `No events, asked every ${every / 1000} s, as of ${at}`];
}

function title(stale) {
  if (document.hidden) return '… paused';
  if (stale) return refused() ? '✖ REFUSED' : '✖ NOT CURRENT';
  const worst = rank.find((v) => state.clusters.some((c) => kindOf(c.verdict) === v)) || 'unknown';
  return `${marks[worst]} ${words[worst]}`;
}

let noticed = '';
let helped = ''; // what helps, as it is shown

// showNotice shows a problem of the connection, and hides facts that must not be shown then.
export function showNotice(stale) {
  $('main').hidden = refused() || !state.clusters;
  const notice = whatIsWrong(stale);
  const key = JSON.stringify(notice);
  if (key === noticed) return; // a screen reader would repeat it each second
  noticed = key;
  $('notice').hidden = !notice;
  if (!notice) return;
  const [heading, text, help, login] = notice;
  $('notice-title').textContent = heading;
  $('notice-text').textContent = text;
  const before = helped;
  helped = JSON.stringify([help, login]);
  if (helped === before) return; // the focus may be in it
  $('notice-do').replaceChildren(...help.map((line) => el('li', {}, line.text || line, ...(line.commands || []).map(commandLine))));
  if (login) $('notice-do').prepend(el('li', {}, el('a', { href: login }, 'Log in')));
}

// whatIsWrong returns a heading, a text and what helps, or null.
function whatIsWrong(stale) {
  const p = state.problem;
  if (refused()) return ['The API is refused to this browser', visible(sentence(p.message)), refusals[p.reason], p.login];
  if (stale && (p || state.asked)) {
    const heading = p && p.reason === 'GONE' ? 'Not current: the service does not answer' : 'Not current';
    const what = visible(sentence(p ? p.message : 'the next answer has not come yet'));
    const tried = state.asked
      ? `What is shown below is as it was at ${utc(state.asked + state.skew)}; it is tried again all the time.`
      : 'It is tried again all the time.';
    return [heading, `${what} ${tried}`, outage()];
  }
  if (state.service && state.service.version !== state.firstVersion) {
    return ['The service was updated', 'Load this page again: it belongs to the version before.', []];
  }
  return null;
}
