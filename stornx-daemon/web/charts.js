// Small charts of history.

import { byId, h, millis, minute, money, number, percent, plural, rate, s, show, span, UNKNOWN } from './dom.js';

const VIEW = { width: 360, height: 112, left: 4, right: 356, top: 17, bottom: 94 };

const CHARTS = [
  { title: 'p95 as callers see it', field: 'p95Ms', get: (point) => point.p95Ms, text: millis },
  { title: 'Calls that leave their zone', field: 'crossZone', get: (point) => point.crossZone, text: (value) => percent(value, 1), most: 1, tight: true },
  { title: 'Transfer cost an hour', field: 'usdPerHour', get: (point) => point.usdPerHour, text: money },
  { title: 'Calls', field: 'requests', get: (point) => point.requests, text: rate },
  { title: 'Survives the worst zone', field: 'survives', get: (point) => point.survives, text: percent, most: 1 },
  { title: 'Rules written', bars: [(point) => point.writes], text: (value) => number(value) },
  { title: 'Steps of moves', bars: [(point) => point.moves], text: (value) => number(value) },
  { title: 'Counts changed', bars: [(point) => point.scaleActions], text: (value) => number(value) },
];

export function draw(history, kept) {
  const points = history.points;
  byId('history-note').textContent = points.length < 2
    ? 'There is history once there have been two cycles.'
    : `${plural(points.reduce((sum, point) => sum + point.cycles, 0), 'cycle')} since ${minute(points[0].at)}; ${span(history.keep)} are kept ${kept === 'file' ? 'in a file, over restarts' : 'in memory, until a restart'}.`;
  show(byId('history'), points.length < 2 ? [] : CHARTS.map((chart) => one(chart, chart.bars ? buckets(points, history.bucket) : points, history.bucket)));
}

// Counts are of times of the same length: those of single cycles are added up as the older ones.
function buckets(points, width) {
  const joined = new Map();
  for (const point of points) {
    const at = Math.floor(point.at / width) * width;
    const before = joined.get(at) ?? { at, writes: 0, moves: 0, scaleActions: 0 };
    joined.set(at, { at, writes: before.writes + point.writes, moves: before.moves + point.moves, scaleActions: before.scaleActions + point.scaleActions });
  }
  return [...joined.values()];
}

function one(chart, points, bucket) {
  const first = points[0].at;
  const last = points[points.length - 1].at;
  const x = (at) => VIEW.left + ((at - first) / Math.max(1, last - first)) * (VIEW.right - VIEW.left);
  const gets = chart.bars ?? [chart.get];
  const values = gets.map((get) => points.map(get));
  const seen = values.flat().filter((value) => value !== undefined && value !== null);
  if (seen.length === 0) {
    return h('div', { class: 'chart' }, h('h3', {}, chart.title, h('span', {}, UNKNOWN)), h('p', { class: 'empty' }, 'Not known.'));
  }
  const most = chart.most && !chart.tight ? chart.most : nice(Math.max(...seen, 1e-9));
  const y = (value) => VIEW.bottom - (Math.min(value, most) / most) * (VIEW.bottom - VIEW.top);
  const current = chart.bars ? values.map((all) => all.reduce((sum, value) => sum + (value ?? 0), 0)) : [[...values[0]].reverse().find((value) => value !== undefined && value !== null)];
  const told = current.map(chart.text).join(', ');
  const [known, of] = chart.field ? counted(chart.field, points) : [0, 0];
  const part = known < of ? `known in ${number(known)} of ${plural(of, 'cycle')}` : '';
  const words = `${chart.title}: ${chart.bars ? `${told} in all` : `${told} now`}, between ${chart.text(Math.min(...seen))} and ${chart.text(Math.max(...seen))} from ${minute(first)} to ${minute(last)}${part && `, ${part}`}`;
  return h('div', { class: 'chart' }, h('h3', {}, chart.title, h('span', {}, chart.bars ? `${told} in all` : told)),
    s('svg', { viewBox: `0 0 ${VIEW.width} ${VIEW.height}`, role: 'img', 'aria-label': words },
      s('line', { class: 'rule', x1: VIEW.left, x2: VIEW.right, y1: VIEW.top, y2: VIEW.top, 'stroke-dasharray': '2 4' }),
      s('line', { class: 'rule', x1: VIEW.left, x2: VIEW.right, y1: VIEW.bottom, y2: VIEW.bottom }),
      chart.bars ? bars(values, points, x, y) : curve(values[0], points, x, y, bucket),
      s('text', { x: VIEW.left, y: VIEW.top - 5 }, chart.text(most)),
      s('text', { x: VIEW.left, y: VIEW.bottom + 15 }, minute(first)),
      s('text', { x: VIEW.right, y: VIEW.bottom + 15, 'text-anchor': 'end' }, minute(last))),
    part && h('p', { class: 'note' }, `${part.charAt(0).toUpperCase()}${part.slice(1)}; the curve is of these.`));
}

// Cycles in which a level was known, and all.
function counted(field, points) {
  const known = (point) => (point.known ? point.known[field] : (point[field] ?? null) === null ? 0 : point.cycles);
  return [points.reduce((sum, point) => sum + known(point), 0), points.reduce((sum, point) => sum + point.cycles, 0)];
}

// The next round number: 1, 2 or 5 times a power of ten.
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 5, 10].map((times) => times * power).find((top) => top >= value * 0.999) ?? value;
}

// Nothing is known of a time without points: the curve is open there. Points of an hour ago and
// before stand for a bucket each, younger ones for a cycle.
const FINE = 3600000;
function gaps(points, bucket) {
  const distances = points.map((point, at) => (at === 0 ? 0 : point.at - points[at - 1].at));
  const recent = distances.filter((one) => one > 0 && one < bucket).sort((a, b) => a - b);
  const usual = recent[Math.floor(recent.length / 2)] ?? bucket;
  const last = points[points.length - 1].at;
  return distances.map((one, at) => one > 4 * (last - points[at].at > FINE ? Math.max(usual, bucket) : usual));
}

function curve(values, points, x, y, bucket) {
  const open = gaps(points, bucket);
  const runs = [];
  let run = null;
  values.forEach((value, at) => {
    if (value === undefined || value === null || open[at]) run = null;
    if (value === undefined || value === null) return;
    if (run) run.push([x(points[at].at), y(value)]);
    else runs.push(run = [[x(points[at].at), y(value)]]);
  });
  const path = (run) => run.map(([px, py], at) => `${at === 0 ? 'M' : 'L'}${px.toFixed(1)} ${py.toFixed(1)}`).join('');
  return runs.flatMap((run) => [
    s('path', { class: 'under', d: `${path(run)}L${run[run.length - 1][0].toFixed(1)} ${VIEW.bottom}L${run[0][0].toFixed(1)} ${VIEW.bottom}Z` }),
    s('path', { class: 'curve', d: path(run) }),
  ]);
}

function bars(values, points, x, y) {
  const width = Math.max(1.2, Math.min(6, (VIEW.right - VIEW.left) / points.length - 0.6));
  return values.flatMap((all, kind) => all.map((value, at) => (value > 0
    ? s('rect', { class: kind === 0 ? 'count-bar' : 'count-bar second', x: Math.min(x(points[at].at), VIEW.right - width).toFixed(1), y: y(value).toFixed(1), width: width.toFixed(1), height: (VIEW.bottom - y(value)).toFixed(1) })
    : null)));
}
