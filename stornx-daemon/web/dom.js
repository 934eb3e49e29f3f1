// Makes elements, puts text into them as text, and writes numbers as people read them.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  // A string becomes a text node: nothing that comes from the cluster is ever read as markup.
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const h = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
export const s = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

export const byId = (id) => document.getElementById(id);

// Puts new content into an element. What had the focus, was unfolded or scrolled stays so:
// such elements carry a `data-key`.
export function show(element, ...content) {
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const open = new Set([...element.querySelectorAll('details[open][data-key]')].map((one) => one.dataset.key));
  const { scrollTop, scrollLeft } = element;
  element.replaceChildren(...content.flat(Infinity).filter(Boolean));
  for (const one of element.querySelectorAll('details[data-key]')) {
    if (open.has(one.dataset.key)) one.open = true;
  }
  if (focused) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  element.scrollTop = scrollTop;
  element.scrollLeft = scrollLeft;
}

export const UNKNOWN = '–';
const known = (value) => value !== undefined && value !== null;

export function number(value, digits = 0) {
  return known(value) ? value.toLocaleString('en', { maximumFractionDigits: digits, minimumFractionDigits: digits }) : UNKNOWN;
}
const digits = (value) => (Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
export const rate = (value) => (known(value) ? `${number(value, value >= 10 || value === 0 ? 0 : value >= 1 ? 1 : 2)}/s` : UNKNOWN);
export const millis = (value) => (known(value) ? `${number(value, value >= 10 ? 0 : 1)} ms` : UNKNOWN);
export const percent = (share, places = 0) => (known(share) ? `${number(share * 100, places)} %` : UNKNOWN);
export const money = (value) => (known(value) ? `$${number(value, value === 0 ? 2 : value < 0.1 ? 4 : digits(value))}` : UNKNOWN);
export const plural = (count, one, more = `${one}s`) => `${number(count)} ${count === 1 ? one : more}`;
// With the day where it is another one than today.
const day = (at) => (new Date(at).toDateString() === new Date().toDateString() ? '' : `${new Date(at).toLocaleDateString('en', { day: 'numeric', month: 'short' })} `);
export const clock = (at) => (known(at) ? day(at) + new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' }) : UNKNOWN);
export const minute = (at) => day(at) + new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
export const instant = (at) => new Date(at).toLocaleString([], { dateStyle: 'full', timeStyle: 'long' });

export function span(ms) {
  if (!known(ms)) return UNKNOWN;
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  return seconds < 7200 ? `${Math.ceil(seconds / 60)} min` : `${number(seconds / 3600, 1)} h`;
}

// `namespace/Kind/name` is long: the name alone says it nearly always.
export const short = (id) => (id.includes('/') ? id.slice(id.lastIndexOf('/') + 1) : id.split('.')[0]);

export function table(head, rows, caption) {
  const cell = (tag, column, content, extra) => h(tag, { class: column.n ? 'n' : column.name ? 'name' : undefined, ...extra }, content);
  return h('table', {}, caption && h('caption', {}, caption),
    h('thead', {}, h('tr', {}, head.map((column) => cell('th', column, column.text, { scope: 'col' })))),
    h('tbody', {}, rows.map((row) => h('tr', {}, row.map((content, at) => cell('td', head[at], content))))));
}
