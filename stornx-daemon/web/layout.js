// Where the parts of the service graph go. Zones are lanes, one below the other; in every lane
// a service has the same place, callers to the left of those they call. Pure: numbers in,
// numbers out.

export const BOX = { width: 138, height: 34 };
const GAP = { row: 14, lane: 16, head: 30, side: 14 };

// The edges to show: those of services that match, the heaviest first.
export function choose(all, { search, top }) {
  const hit = (id) => id.toLowerCase().includes(search);
  const edges = search ? all.filter((edge) => hit(edge.caller) || hit(edge.callee)) : all;
  return { edges: edges.slice(0, top), of: edges.length };
}

// Distance from those that nobody calls, along the longest way; calls that go round are cut.
function depths(ids, edges) {
  const callees = new Map(ids.map((id) => [id, []]));
  const called = new Set();
  for (const edge of edges) {
    if (edge.caller === edge.callee) continue;
    callees.get(edge.caller).push(edge.callee);
    called.add(edge.callee);
  }
  const depth = new Map();
  const path = new Set();
  let steps = 20000;
  const visit = (id, at) => {
    if (path.has(id) || steps-- < 0 || (depth.get(id) ?? -1) >= at) return;
    depth.set(id, at);
    path.add(id);
    for (const callee of callees.get(id)) visit(callee, at + 1);
    path.delete(id);
  };
  ids.filter((id) => !called.has(id)).forEach((id) => visit(id, 0));
  ids.forEach((id) => depth.has(id) || visit(id, 0));
  return depth;
}

// Columns of services. A column that is too long goes on beside itself.
function columns(ids, edges, most) {
  const depth = depths(ids, edges);
  const levels = [];
  for (const id of ids) (levels[depth.get(id)] ??= []).push(id);
  const place = new Map();
  const all = [];
  for (const level of levels.filter(Boolean)) {
    const weight = (id) => {
      const callers = edges.filter((edge) => edge.callee === id && place.has(edge.caller));
      const sum = callers.reduce((sum, edge) => sum + edge.requests, 0);
      return sum > 0 ? callers.reduce((at, edge) => at + place.get(edge.caller) * edge.requests, 0) / sum : Infinity;
    };
    const order = new Map(level.map((id) => [id, weight(id)]));
    level.sort((a, b) => order.get(a) - order.get(b) || (a < b ? -1 : 1));
    level.forEach((id, at) => place.set(id, at / level.length));
    for (let at = 0; at < level.length; at += most) all.push(level.slice(at, at + most));
  }
  return all;
}

export function layout(cycle, edges, width) {
  const ids = [...new Set(edges.flatMap((edge) => [edge.caller, edge.callee]))].sort();
  const most = ids.length > 40 ? 12 : 7;
  const cols = columns(ids, edges, most);
  const rows = Math.max(1, ...cols.map((column) => column.length));
  const full = Math.max(width, cols.length * (BOX.width + 92) - 92 + 2 * GAP.side);
  const step = cols.length > 1 ? (full - 2 * GAP.side - BOX.width) / (cols.length - 1) : 0;
  const height = GAP.head + rows * (BOX.height + GAP.row) + 6;
  const spot = new Map();
  cols.forEach((column, x) => column.forEach((id, y) => {
    const indent = (rows - column.length) / 2;
    spot.set(id, { x: GAP.side + x * step, y: GAP.head + (y + indent) * (BOX.height + GAP.row), column: x });
  }));
  const lanes = cycle.zones.map((zone, at) => ({ zone, y: at * (height + GAP.lane), height }));
  return { ids, spot, lanes, width: full, height: Math.max(0, lanes.length * (height + GAP.lane) - GAP.lane) };
}

// A line from one box to another, and where its label goes.
export function line(from, to, nth) {
  const start = { x: from.x + BOX.width, y: from.y + BOX.height / 2 };
  const end = { x: to.x, y: to.y + BOX.height / 2 };
  const back = end.x < start.x;
  const bend = back ? 70 : Math.max(30, (end.x - start.x) / 2);
  const [a, b] = [{ x: start.x + bend, y: start.y + (back ? 24 : 0) }, { x: end.x - bend, y: end.y + (back ? 24 : 0) }];
  const round = (value) => Math.round(value * 10) / 10;
  const path = `M${round(start.x)} ${round(start.y)}C${round(a.x)} ${round(a.y)} ${round(b.x)} ${round(b.y)} ${round(end.x)} ${round(end.y)}`;
  // Labels stand before the box that is called, one above the other where several call it.
  return { path, x: round(end.x - 7), y: round(end.y + [-4, 12, -16, 24, -28, 36, -40, 48][nth % 8]) };
}
