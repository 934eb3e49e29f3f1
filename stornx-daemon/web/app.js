// Fetches what there is, follows what changes, and shows it.

import * as charts from './charts.js';
import { byId, clock, h, instant, millis, money, number, percent, plural, rate, short, show, span, table, UNKNOWN } from './dom.js';
import { get } from './fetch.js';
import * as graph from './graph.js';

const FEW = 6;
// After a document without an answer, ms.
const AGAIN = 5000;
const shown = { id: -1, decisions: FEW, waiting: 2 * FEW, notices: '' };
let state = null;
let wanted = false;
let fetching = false;

// One fetch at a time; what comes meanwhile makes one more.
async function refresh() {
  wanted = true;
  if (fetching) return;
  fetching = true;
  try {
    while (wanted) {
      wanted = false;
      const [now, history] = await Promise.all([get('api/v1/state'), get('api/v1/history')]);
      state = now;
      heard(now.now);
      render(history);
    }
  } catch {
    link('lost', 'no answer');
    setTimeout(refresh, AGAIN);
  } finally {
    fetching = false;
  }
}

function follow() {
  const events = new EventSource('api/v1/events');
  events.addEventListener('open', () => link('live', 'live'));
  events.addEventListener('cycle', (event) => {
    link('live', 'live');
    const { id, now } = JSON.parse(event.data);
    heard(now);
    if (id !== shown.id) refresh();
  });
  events.addEventListener('banner', (event) => {
    if (!state) return;
    state.banner = JSON.parse(event.data);
    banner();
  });
  events.addEventListener('error', () => {
    link('lost', 'not connected');
    // A browser gives up on an answer that is no stream.
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  });
}

// The clock of the server: what time it said last, and how long ago that is here.
const said = { now: 0, at: 0 };
function heard(now) {
  Object.assign(said, { now, at: performance.now() });
}
const now = () => said.now + performance.now() - said.at;

function link(kind, text) {
  const pill = byId('link');
  if (pill.dataset.state === kind && pill.textContent === text) return;
  pill.dataset.state = kind;
  pill.textContent = text;
}

// When the first state was shown, counted from the beginning of the navigation.
function painted() {
  if (performance.getEntriesByName('shown').length === 0) {
    requestAnimationFrame(() => setTimeout(() => performance.mark('shown')));
  }
}

function render(history) {
  shown.id = state.latest.id;
  document.documentElement.dataset.cycle = String(shown.id);
  banner();
  figures();
  graph.draw(state);
  decisions();
  waiting();
  zones();
  inputs();
  services();
  charts.draw(history, state.banner.history);
  painted();
}

const CLUSTERS = {
  cluster: (it) => it.kubernetes,
  plan: () => 'live, one plan made once',
  recording: () => 'a recording',
  simulation: (it) => `simulated: ${it.scenario}`,
};

const STAGES = {
  syncing: 'The cluster is not fully seen yet.',
  waiting: 'Another StornX leads and decides; this one waits to take over.',
  'first-cycle': 'The first cycle is under way.',
  stopping: 'StornX is stopping.',
};

// A holder is called after its pod, its process and when that started.
function follows(leader) {
  const pod = leader.replace(/-\d+-[0-9a-f]+$/, '');
  return `Another StornX leads and decides: ${leader}. This one waits to take over; what is done stands on the page of the leader (in a cluster: kubectl port-forward pod/${pod} 3000, in its namespace).`;
}

function banner() {
  const { banner: it, latest } = state;
  const facts = [
    ['Version', it.version], ['Cluster', CLUSTERS[it.source](it)], ['Namespaces', it.namespaces.join(', ')],
    ['Leader', it.leader], ['Last cycle', latest.cycle && clock(latest.cycle.at)], ['Next', it.nextCycle && clock(it.nextCycle)],
  ];
  show(byId('about'), facts.filter(([, value]) => value).map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
  const stage = it.stage === 'waiting' && it.leader ? follows(it.leader) : STAGES[it.stage];
  // A loop that stands still is not seen in a page that is connected: the server knows its schedule.
  const still = it.overdueSince && latest.cycle && `The last cycle that planned something was ${span(now() - latest.cycle.at)} ago; the next one was due at ${clock(it.overdueSince)}.`;
  const text = JSON.stringify([it.dryRun, stage, it.notReady, latest.problems, still]);
  // What is read out is read out once.
  if (text === shown.notices) return;
  shown.notices = text;
  show(byId('notices'),
    it.dryRun && h('p', { class: 'notice', id: 'dry-run' }, h('strong', {}, 'Dry run. '), 'StornX decides and says what it would do; it writes nothing.'),
    stage && h('p', { class: 'notice' }, stage, it.notReady.map((what) => ` ${what}.`)),
    still && h('p', { class: 'notice' }, still),
    latest.problems.length > 0 && h('div', { class: 'notice bad', role: 'alert' }, h('strong', {}, 'The last cycle went wrong. '), latest.problems.slice(0, 5).map((what) => h('div', {}, what))));
}

function figures() {
  const cycle = state.latest.cycle;
  if (!cycle) return show(byId('figures'));
  const it = cycle.summary;
  const tiles = [
    ['services', number(it.services)], ['ready replicas', number(it.replicas), it.moving > 0 && `${it.moving} moving`], ['nodes', number(it.nodes)], ['calls', rate(it.requests)],
    ['p95 of calls', millis(it.p95Ms)], ['leave their zone', percent(it.crossZone, 1)], ['cost an hour', money(it.usdPerHour)], ['calls that fail', percent(it.errors, 2)],
  ];
  return show(byId('figures'), tiles.map(([name, value, more]) => h('div', {}, h('dt', {}, name), h('dd', {}, value, more && h('small', {}, ` ${more}`)))));
}

const pill = (kind, text) => h('span', { class: 'pill', 'data-state': kind }, text);

function result(decision) {
  const { name } = decision.result;
  if (name === 'done') return pill('done', 'done');
  if (name === 'dry-run') return pill('held', 'would be done');
  return ['not-tried', 'not-leader'].includes(name) ? pill('held', 'not tried') : pill('failed', name);
}

// The numbers behind a decision, whatever they are: `a.b` is a field within a field.
function numbers(value, name = '') {
  if (value === null || value === undefined) return [];
  if (Array.isArray(value) && value.every((one) => typeof one !== 'object')) return [[name, value.map(plain).join(', ')]];
  if (typeof value === 'object') return Object.entries(value).flatMap(([key, inner]) => numbers(inner, name ? `${name}.${key}` : key));
  return [[name, plain(value)]];
}
const plain = (value) => (typeof value === 'number' ? number(value, Number.isInteger(value) ? 0 : 2) : String(value));

// What is said in the place of what is not known here; null where a cycle is.
function unknown() {
  if (state.latest.cycle) return null;
  const { stage, leader } = state.banner;
  return stage === 'waiting' ? `Another StornX decides${leader ? `: ${leader}` : ''}. What it decides stands on its own page.` : 'Nothing is known yet.';
}

function decisions() {
  const all = state.latest.decisions;
  if (all.length === 0) return show(byId('decisions'), h('p', { class: 'empty' }, unknown() ?? 'Nothing had to be done yet.'));
  // Told again with every cycle until it is done: it stays the same thing.
  const key = (one) => `${one.result.name === 'done' ? one.at : ''} ${one.service} ${one.host} ${one.kind}`;
  const item = (one) => h('li', {},
    h('div', { class: 'line' }, h('time', { datetime: new Date(one.at).toISOString(), title: instant(one.at) }, clock(one.at)), result(one), graph.named(one.service, key(one)), one.kind.replaceAll('-', ' '), one.times > 1 && `${number(one.times)} times`),
    h('div', { class: 'what' }, h('strong', {}, `${one.why.charAt(0).toUpperCase()}${one.why.slice(1)}.`), ` Expected: ${one.expected.text}.`),
    !['done', 'dry-run'].includes(one.result.name) && h('div', { class: 'note' }, one.result.text),
    h('details', { 'data-key': `numbers ${key(one)}` }, h('summary', { 'data-key': `numbers of ${key(one)}` }, 'numbers'), h('p', { class: 'note' }, one.action), h('dl', { class: 'numbers' }, numbers(Object.values(one.numbers)[0] ?? one.numbers).map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]))));
  return show(byId('decisions'), h('ol', { class: 'list', reversed: true }, all.slice(0, shown.decisions).map(item)), more('decisions', all.length, decisions));
}

function more(what, count, again) {
  if (count <= shown[what]) return null;
  const rest = count - shown[what];
  return h('button', { type: 'button', class: 'more', 'data-key': `more ${what}`, onclick: () => { shown[what] += 25; again(); } }, `Show ${plural(Math.min(25, rest), 'more', 'more')} of ${number(rest)}`);
}

const WAITS = {
  'next-cycle': 'Goes on with the next cycles', 'under-way': 'Under way', counts: 'Looked at once requests are counted anew', cooldown: 'Left alone for a while',
  budget: 'Had to stand back for others in this cycle', input: 'Cannot be decided: an input is missing', guard: 'Not allowed or not possible',
};

function waiting() {
  const cycle = state.latest.cycle;
  const all = cycle?.waiting ?? [];
  const next = state.banner.nextCycle && h('p', { class: 'note' }, `The next cycle comes at ${clock(state.banner.nextCycle)}, or earlier when nodes or endpoints change.`);
  if (all.length === 0) return show(byId('waiting'), next, h('p', { class: 'empty' }, unknown() ?? 'Nothing waits: everything is where it should be.'));
  const few = all.slice(0, shown.waiting);
  const kinds = Object.keys(WAITS).filter((kind) => few.some((one) => one.waitsFor === kind));
  // Routes are of a host: its service is what the graph shows.
  const service = (subject) => (subject.includes('/') ? subject : cycle.hosts.find((host) => host.name === subject)?.service);
  const name = (subject) => (service(subject) ? graph.named(service(subject), subject, subject) : short(subject));
  const item = (one) => h('li', {}, h('div', { class: 'line' }, name(one.subject), { scale: 'count', move: 'places', route: 'routes' }[one.about] ?? one.about, one.left !== null && pill('held', span(one.left))), h('div', { class: 'what' }, one.reason.text));
  return show(byId('waiting'), next, kinds.map((kind) => h('div', { class: 'group' }, h('h3', {}, `${WAITS[kind]} (${all.filter((one) => one.waitsFor === kind).length})`), h('ul', { class: 'list' }, few.filter((one) => one.waitsFor === kind).map(item)))), more('waiting', all.length, waiting));
}

function zones() {
  const all = state.latest.cycle?.zones ?? [];
  const one = (zone) => {
    const { loss } = zone;
    const words = [loss.gone > 0 && `${plural(loss.gone, 'service')} would be gone`, loss.short > 0 && `${plural(loss.short, 'service')} could serve a part`].filter(Boolean);
    const lost = loss.worst.map((it) => `${short(it.service)} (${it.survivors === 0 ? 'gone' : `${it.survivors} left${it.served === null ? '' : `, ${percent(it.served)} of its demand`}`})`);
    return h('div', { class: 'zone' },
      h('div', { class: 'row' }, h('strong', {}, `Without ${zone.name}`), h('span', {}, loss.served === null ? 'not known' : `${percent(loss.served, loss.served > 0.995 && loss.served < 1 ? 1 : 0)} of requests served`)),
      loss.served !== null && h('meter', { min: 0, max: 1, low: 0.7, high: 0.95, optimum: 1, value: loss.served, 'aria-label': `Share of requests served without ${zone.name}` }),
      h('p', { class: 'note' }, `${plural(zone.replicas, 'replica')} on ${plural(zone.nodes, 'node')}${zone.readyNodes < zone.nodes ? ` (${zone.readyNodes} ready)` : ''}. ${words.length > 0 ? `${words.join(', ')}: ` : 'Every service survives.'}${lost.join(', ')}`));
  };
  show(byId('zones'), all.length > 0 ? all.map(one) : h('p', { class: 'empty' }, unknown() ?? 'No zone is known.'));
}

function inputs() {
  const all = state.latest.cycle?.inputs ?? [];
  show(byId('inputs'), all.map((it) => h('li', {}, h('strong', {}, it.input), pill(it.state, it.state),
    h('span', { class: 'from' }, [it.source && `from ${it.source.replaceAll('-', ' ')}`, it.age !== null && `${span(it.age)} old`, it.note].filter(Boolean).join(', ')))));
}

function services() {
  const cycle = state.latest.cycle;
  const { search, all, more } = cycle ? graph.services(cycle) : { search: '', all: [], more: 0 };
  const head = [{ text: 'service', name: true }, { text: 'ready by zone' }, { text: 'asked', n: true }, { text: 'used', n: true }, { text: 'p95', n: true }, { text: 'rate', n: true }, { text: 'count', name: true }, { text: 'places', name: true }];
  const rows = all.slice(0, 100).map((it) => [graph.named(it.id), Object.entries(it.ready).map(([zone, count]) => `${zone} ${count}`).join(', ') || 'none', number(it.desired),
    it.utilisation === null ? UNKNOWN : `${number(it.utilisation)} %`, millis(it.p95Ms), rate(it.requests), it.scale.text, it.moves.text]);
  const left = all.length - rows.length + more;
  show(byId('services'), search && h('p', { class: 'note' }, `Services whose names contain “${search}”.`), table(head, rows), left > 0 && h('p', { class: 'note' }, `${number(left)} more with fewer requests: the search above finds each by its name.`));
}

graph.wire(() => services());
setInterval(() => state && banner(), 15000);
refresh().then(follow);
