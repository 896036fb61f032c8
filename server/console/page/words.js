// Numbers, times and names in words.

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function size(n) {
  let v = Number(n);
  if (!(v > 0)) return v === 0 ? '0 B' : '-';
  let u = 0;
  for (; v >= 1024 && u < units.length - 1; u++) v /= 1024;
  return `${u === 0 || v >= 9.95 ? Math.round(v) : v.toFixed(1)} ${units[u]}`;
}

export function count(n) {
  return Number(n) > 0 ? String(n).replace(/\B(?=(\d{3})+$)/g, '\u202f') : '-';
}

export function span(ms) {
  const s = Math.max(0, ms / 1000);
  if (s < 120) return `${Math.floor(s)}s`;
  if (s < 7200) return `${Math.floor(s / 60)}m`;
  if (s < 172800) return `${Math.floor(s / 3600)}h`;
  return `${Math.floor(s / 86400)}d`;
}

export function took(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)}\u00a0ms`;
  return seconds < 60 ? `${seconds.toFixed(1)}\u00a0s` : span(seconds * 1000);
}

// seconds is the number of a duration of the API, such as "1.5s".
export const seconds = (duration) => parseFloat(duration) || 0;

export const iso = (ms) => new Date(ms).toISOString();
export const utc = (ms) => `${iso(ms).slice(0, 19).replace('T', ' ')} UTC`;
export const minute = (ms) => iso(ms).slice(0, 16).replace('T', ' ');

export const several = (n, one, more) => `${n} ${n === 1 ? one : more || `${one}s`}`;

// stopped is a text with a full stop, which most errors do not have.
export const stopped = (text) => (/[.:?]$/.test(text) ? text : `${text}.`);

// sentence makes a sentence of an error, which begins with a small letter.
export const sentence = (text) => stopped(`${text.charAt(0).toUpperCase()}${text.slice(1)}`);

// plain is the name of a value of the API's enumerations, without the name of the enumeration.
export const plain = (name) => String(name || '').replace(/^(STATE|TRIGGER|LEVEL|COMPRESSION|ROLE|VERDICT)_/, '');

// visible shows characters without a shape of their own, and those that change the direction of the text.
export function visible(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}]/gu, (c) => (c === '\n' || c === '\t' ? ' ' : `\\u{${c.codePointAt(0).toString(16)}}`));
}

// Verdicts

export const kinds = { VERDICT_SAFE: 'safe', VERDICT_ATTENTION: 'attention', VERDICT_NOT_SAFE: 'danger', VERDICT_UNKNOWN: 'unknown' };
export const kindOf = (verdict) => kinds[verdict] || 'unknown';
export const rank = ['danger', 'unknown', 'attention', 'safe'];
export const marks = { safe: '✔', attention: '▲', danger: '✖', unknown: '?' };
export const words = { safe: 'SAFE', attention: 'ATTENTION', danger: 'NOT SAFE', unknown: 'UNKNOWN' };
