// Draws the service graph and what is known of the service that was chosen.

import { byId, h, millis, number, percent, plural, rate, s, short, show, span, table, UNKNOWN } from './dom.js';
import { get } from './fetch.js';
import { BOX, choose, layout, line } from './layout.js';

// More labels than this would hide what they are about.
const MOST_LABELS = 60;
// After a search without an answer, ms.
const AGAIN = 5000;
// More lines than this are a cloud.
const MOST_LINES = 700;

const chosen = { service: null, state: null, more: () => {} };
// What was found beyond the edges of the state.
const nothing = () => ({ text: '', id: 0, edges: null, leftOut: 0, services: null, servicesLeftOut: 0, failed: false });
const found = nothing();
// The same of the service that was chosen.
const own = nothing();

export function wire(more) {
  chosen.more = more;
  const again = () => chosen.state && (draw(chosen.state), chosen.more());
  let typing;
  byId('search').addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(again, 80);
  });
  byId('top').addEventListener('change', again);
  byId('crossing').addEventListener('change', again);
  byId('tools').addEventListener('submit', (event) => event.preventDefault());
  byId('graph').addEventListener('keydown', steer);
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) > 40) {
      width = entry.contentRect.width;
      again();
    }
  }).observe(byId('graph'));
}

export function choice(service) {
  chosen.service = chosen.service === service ? null : service;
  draw(chosen.state);
}

// Arrow keys go from service to service.
function steer(event) {
  if (event.key === 'Escape' && chosen.service) return choice(chosen.service);
  const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
  const here = event.target.closest?.('.node');
  if (!way || !here) return undefined;
  event.preventDefault();
  const at = (node) => ({ x: Number(node.dataset.x), y: Number(node.dataset.y) });
  const from = at(here);
  let best = null;
  for (const node of byId('graph').querySelectorAll('.node')) {
    const to = at(node);
    const ahead = (to.x - from.x) * way[0] + (to.y - from.y) * way[1];
    const aside = Math.abs((to.x - from.x) * way[1]) + Math.abs((to.y - from.y) * way[0]);
    const cost = ahead + 3 * aside;
    if (ahead > 1 && (!best || cost < best.cost)) best = { node, cost };
  }
  if (best) {
    here.setAttribute('tabindex', '-1');
    best.node.setAttribute('tabindex', '0');
    best.node.focus();
  }
  return undefined;
}

export function draw(state) {
  chosen.state = state;
  const cycle = state.latest.cycle;
  const place = byId('graph');
  if (!cycle) {
    show(place, h('p', { class: 'empty' }, 'No cycle has planned anything yet.'));
    for (const id of ['calls', 'flows', 'detail']) show(byId(id));
    byId('graph-note').textContent = '';
    return;
  }
  const search = searched();
  look(found, search, state);
  look(own, (chosen.service ?? '').toLowerCase().replace(/[^a-z0-9./-]/g, ''), state);
  const known = search && found.text === search && found.edges;
  const picked = choose(known ? found.edges : cycle.edges, { search, top: Number(byId('top').value) });
  const missing = picked.of + (known ? found.leftOut : search ? 0 : cycle.leftOut.edges) - picked.edges.length;
  byId('graph-note').textContent = missing > 0
    ? `The ${number(picked.edges.length)} edges with most requests are shown, ${number(missing)} more are not: search for a service to see its own.`
    : '';
  if (picked.edges.length === 0) {
    show(place, h('p', { class: 'empty' }, none(search, known || cycle.leftOut.edges === 0)));
  } else {
    show(place, picture(cycle, picked.edges));
  }
  calls(cycle, picked.edges);
  flows(cycle);
  detail(state, search);
}

// Why no call is shown.
function none(search, whole) {
  if (!search) return 'No calls are known.';
  if (whole) return 'No service of that name has calls; the table of services below shows those without.';
  return found.failed ? 'StornX does not answer the search; it is asked again.' : 'Looking among all calls.';
}

const searched = () => byId('search').value.trim().toLowerCase().replace(/[^a-z0-9./-]/g, '');

// The managed services that are searched for, and how many more there are.
export function services(cycle) {
  const search = searched();
  const known = search && found.text === search && found.services;
  const all = (known || cycle.services).filter((one) => one.managed && one.id.toLowerCase().includes(search));
  return { search, all, more: known ? found.servicesLeftOut : cycle.leftOut.services };
}

// A state has the heaviest edges and services only: what is searched for or chosen is asked for.
async function look(found, text, state) {
  const { leftOut } = state.latest.cycle;
  const { latest } = state;
  if (!text || leftOut.edges + leftOut.services === 0) {
    // All there is stands in the state.
    Object.assign(found, nothing());
    return;
  }
  if (found.text === text && found.id === latest.id) return;
  const same = found.text === text;
  Object.assign(found, { text, id: latest.id, edges: same ? found.edges : null, services: same ? found.services : null, failed: false });
  try {
    const more = await get(`api/v1/edges?search=${text}`);
    if (found.text !== text) return;
    Object.assign(found, more);
  } catch {
    if (found.text !== text) return;
    found.failed = true;
    // Not known for this document: the next drawing asks again.
    setTimeout(() => {
      if (found.text !== text || !found.failed) return;
      found.id = 0;
      draw(chosen.state);
    }, AGAIN);
  }
  draw(chosen.state);
  chosen.more();
}

function picture(cycle, edges) {
  const at = layout(cycle, edges, byId('graph').clientWidth);
  const services = new Map(cycle.services.map((service) => [service.id, service]));
  const lane = new Map(at.lanes.map((one) => [one.zone.name, one]));
  const parts = { lanes: [], lines: [], nodes: [], labels: [] };
  for (const { zone, y, height } of at.lanes) {
    const facts = [plural(zone.replicas, 'replica'), zone.requests === null ? null : `${rate(zone.requests)} answered here`, zone.stays === null ? null : `${percent(zone.stays)} of its calls stay`];
    parts.lanes.push(
      s('rect', { class: 'lane', x: 0.5, y: y + 0.5, width: at.width - 1, height: height - 1, rx: 8 }),
      s('text', { class: 'lane-name', x: 14, y: y + 20 }, zone.name),
      s('text', { class: 'lane-note', x: 26 + zone.name.length * 8, y: y + 20 }, facts.filter(Boolean).join(' · ')),
    );
  }
  lines(edges, at, lane, parts);
  let first = true;
  for (const { zone, y } of at.lanes) {
    for (const id of at.ids) {
      const spot = at.spot.get(id);
      const service = services.get(id);
      const ready = service?.ready[zone.name] ?? 0;
      const box = { x: spot.x, y: y + spot.y };
      if (ready === 0 && service) {
        parts.nodes.push(s('rect', { class: 'ghost-node', x: box.x, y: box.y, width: BOX.width, height: BOX.height, rx: 6 }));
        continue;
      }
      parts.nodes.push(node(id, service, zone.name, ready, box, first));
      first = false;
    }
  }
  const near = chosen.service && at.ids.includes(chosen.service);
  return s('svg', { viewBox: `0 0 ${at.width} ${at.height}`, width: at.width, class: near ? 'chosen' : undefined, role: 'group', 'aria-label': `${plural(at.ids.length, 'service')} in ${plural(at.lanes.length, 'zone')}` },
    parts.lanes, parts.lines, parts.nodes, parts.labels);
}

function lines(edges, at, lane, parts) {
  const crossing = byId('crossing').checked;
  let all = edges.flatMap((edge) => edge.routes.map((route) => ({ edge, route, inside: route.from === route.to })));
  const near = (one) => one.edge.caller === chosen.service || one.edge.callee === chosen.service;
  all = all.filter((one) => (one.inside || crossing || near(one)) && lane.has(one.route.from) && lane.has(one.route.to));
  all.sort((a, b) => b.route.requests - a.route.requests);
  all = all.slice(0, MOST_LINES);
  const most = Math.max(1, all[0]?.route.requests ?? 1);
  const slots = new Map();
  let labels = 0;
  for (const one of all) {
    const { edge, route, inside } = one;
    const [from, to] = [at.spot.get(edge.caller), at.spot.get(edge.callee)];
    const y = (zone) => lane.get(zone).y;
    const shown = inside && labels < MOST_LABELS;
    if (shown) labels += 1;
    // Labels before one box stand one above the other; those of a choice are by themselves.
    const place = `${near(one)} ${route.to} ${edge.callee}`;
    const slot = slots.get(place) ?? 0;
    if (shown || near(one)) slots.set(place, slot + 1);
    const way = line({ x: from.x, y: from.y + y(route.from) }, { x: to.x, y: to.y + y(route.to) }, slot);
    const kind = `${inside ? '' : ' crossing'}${near(one) ? ' near' : ''}`;
    const width = 1 + 5 * Math.sqrt(route.requests / most);
    parts.lines.push(s('path', { class: `edge${kind}`, d: way.path, 'stroke-width': Math.round(width * 10) / 10 }));
    if (!shown && !near(one)) continue;
    parts.labels.push(s('text', { class: `edge-label${kind}${shown ? '' : ' quiet'}`, x: way.x, y: way.y, 'text-anchor': 'end' }, told(route)));
  }
}

function told(route) {
  const parts = [rate(route.requests)];
  if (route.p95Ms !== undefined) parts.push(millis(route.p95Ms).replace(' ', ''));
  if (route.weight !== undefined) parts.push(`${route.weight}%`);
  return parts.join(' · ');
}

function node(id, service, zone, ready, box, first) {
  const name = short(id);
  const used = service?.utilisation;
  const words = [`${name} in ${zone}`, service ? plural(ready, 'ready replica') : 'not managed', service && `${rate(service.requests)} in all`, used !== null && used !== undefined && `${number(used)} % used`];
  const press = (event) => {
    if (event.type === 'click' || event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      choice(id);
    }
  };
  return s('g', {
    class: 'node', role: 'button', tabindex: first ? 0 : -1, 'aria-label': words.filter(Boolean).join(', '), 'aria-pressed': String(chosen.service === id),
    'data-key': `${zone} ${id}`, 'data-x': box.x, 'data-y': box.y, onclick: press, onkeydown: press,
  },
    s('title', {}, `${id}: ${words.filter(Boolean).join(', ')}`),
    s('rect', { class: 'box', x: box.x, y: box.y, width: BOX.width, height: BOX.height, rx: 6 }),
    used !== null && used !== undefined && s('rect', { class: used > 85 ? 'used high' : 'used', x: box.x + 6, y: box.y + BOX.height - 6, width: Math.max(1, (BOX.width - 12) * Math.min(1, used / 100)), height: 2.5, rx: 1 }),
    s('text', { x: box.x + 8, y: box.y + 20 }, name.length > 14 ? `${name.slice(0, 13)}…` : name),
    service && s('text', { class: 'count', x: box.x + BOX.width - 8, y: box.y + 20, 'text-anchor': 'end' }, `×${ready}`));
}

// A service that can be chosen; `where` tells several of one name apart.
function named(id, where = '', text = id) {
  return h('button', { type: 'button', class: 'plain', 'data-key': `pick ${where} ${id}`, title: id, onclick: () => choice(id) }, short(text));
}

function calls(cycle, edges) {
  const head = [{ text: 'from', name: true }, { text: 'to', name: true }, { text: 'rate', n: true }, { text: 'p95', n: true }, { text: 'fail', n: true }, { text: 'leave their zone', n: true }];
  const rows = edges.slice(0, 100).map((edge) => [short(edge.caller), short(edge.callee), rate(edge.requests), millis(edge.p95Ms), percent(edge.errors, 1), percent(edge.crossZone)]);
  show(byId('calls'), table(head, rows));
}

function flows(cycle) {
  const zones = cycle.zones.map((zone) => zone.name);
  if (zones.length > 12) {
    show(byId('flows'), h('p', { class: 'empty' }, `${number(zones.length)} zones are too many for a table; see the state as JSON.`));
    return;
  }
  // Of all edges, also of those that are not shown.
  const sums = new Map(cycle.flows.map((flow) => [JSON.stringify([flow.from, flow.to]), flow]));
  const cell = (from, to) => {
    const sum = sums.get(JSON.stringify([from, to]));
    return sum ? `${rate(sum.requests)} · ${millis(sum.p95Ms)}` : UNKNOWN;
  };
  const head = [{ text: 'from \\ to' }, ...zones.map((zone) => ({ text: zone, n: true }))];
  show(byId('flows'), table(head, zones.map((from) => [from, ...zones.map((to) => cell(from, to))])));
}

function detail(state, search) {
  const cycle = state.latest.cycle;
  const all = [cycle.services, own.services ?? [], found.services ?? []].flat();
  const service = all.find((one) => one.id === chosen.service);
  if (!service) {
    show(byId('detail'));
    return;
  }
  const hosts = cycle.hosts.filter((host) => host.service === service.id);
  const waits = cycle.waiting.filter((one) => one.subject === service.id || hosts.some((host) => host.name === one.subject));
  const ready = Object.entries(service.ready).map(([zone, count]) => `${zone} ${count}`).join(', ');
  const facts = [
    ['Replicas', `${ready || 'none'} ready, ${service.desired} asked for`],
    ['Load', `${rate(service.requests)}, p95 ${millis(service.p95Ms)}, ${service.utilisation === null ? UNKNOWN : `${number(service.utilisation)} %`} used`],
    ['Count', service.scale.text], ['Places', service.moves.text],
    ...hosts.flatMap((host) => [['Routes', host.reason.text], ...host.verification.map((one) => ['Seen', one.text])]),
    ...waits.filter((one) => one.left !== null).map((one) => ['Waits', `${one.reason.text} (${span(one.left)})`]),
  ];
  show(byId('detail'), h('div', { class: 'box' },
    h('h3', {}, h('span', {}, service.id), h('button', { type: 'button', class: 'plain', 'data-key': 'close', onclick: () => choice(service.id) }, 'close')),
    h('dl', { class: 'numbers' }, facts.map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)])),
    hosts.filter((host) => host.weights).map(weights),
    around([cycle.edges, own.edges ?? [], (found.text === search && found.edges) || []], service.id)));
}

function weights(host) {
  const rows = Object.entries(host.weights);
  const zones = [...new Set(rows.flatMap(([, split]) => Object.keys(split)))].sort();
  return [h('h3', {}, `Weights of ${host.name}, % by zone of the caller${host.byNode ? ' (means over its nodes)' : ''}`),
    h('div', { class: 'scroll' }, table([{ text: 'from \\ to' }, ...zones.map((zone) => ({ text: zone, n: true }))], rows.map(([from, split]) => [from, ...zones.map((zone) => String(split[zone] ?? UNKNOWN))])))];
}

// Edges of the state come first, then those that were found beyond them.
function around(lists, id) {
  const all = new Map();
  for (const edge of lists.flat()) {
    const key = `${edge.caller} ${edge.callee} ${edge.host}`;
    if ((edge.caller === id || edge.callee === id) && !all.has(key)) all.set(key, edge);
  }
  const edges = [...all.values()].sort((a, b) => b.requests - a.requests).slice(0, 20);
  if (edges.length === 0) return null;
  const rows = edges.flatMap((edge) => edge.routes.map((route) => [
    edge.caller === id ? `calls ${short(edge.callee)}` : `called by ${short(edge.caller)}`, `${route.from} → ${route.to}`, rate(route.requests), millis(route.p95Ms), route.weight === undefined ? UNKNOWN : `${route.weight} %`]));
  return [h('h3', {}, 'Its calls by zone'), h('div', { class: 'scroll tall', tabindex: 0, role: 'group', 'aria-label': 'Its calls by zone', 'data-key': 'around' },
    table([{ text: 'call', name: true }, { text: 'zones' }, { text: 'rate', n: true }, { text: 'p95', n: true }, { text: 'weight', n: true }], rows))];
}

export { named };
