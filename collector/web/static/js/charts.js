// How it stood over time: uPlot charts that share their time axis, their cursor and their marks.

import { byId, KINDS, make, MARKED, put } from "./states.js";
import * as format from "./format.js";

const SPANS = { "10m": ["10 min", 600], "1h": ["1 h", 3_600], "1d": ["1 day", 86_400], "1w": ["1 week", 604_800] };
const BY_SECOND_S = 3_600;
const REFRESH_MS = 60_000; // of spans that are shown by the minute
const HOLE = 3; // grains without a point that break a line
const NEAR = 6; // pixels from a mark at which it is read out
const LEGEND = MARKED.map((kind) => `${KINDS[kind]} ${kind}`).join("  ");
const SYNC = uPlot.sync("time");

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const own = (points, room, key) => points.map((point) => point?.[room]?.[key[0]]?.[key[1]] ?? null);
const names = (points, room) => [...new Set(points.flatMap((point) => Object.keys(point?.[room] ?? {})))].sort(
  (a, b) => a.localeCompare(b, "en", { numeric: true }),
);

/** What each chart shows: series by name, made of the points. */
const CHARTS = [
  {
    id: "coverage", title: "Coverage", axis: (v) => `${format.measure(v * 100)} %`, value: (v) => format.share(v),
    range: (min, max) => [Math.min(min ?? 0, 0.9) - 0.002, 1.004],
    series: (points) => [
      ["coverage", points.map((p) => p?.coverage ?? null)],
      ["completeness", points.map((p) => p?.completeness ?? null)],
    ],
  },
  {
    id: "latency", title: "Latency to aggregator", axis: format.micros, value: format.micros, log: true,
    series: (points) => {
      const shards = names(points, "shards");
      const quiet = (values) => values.map((v) => v || null); // 0: no frame in that second
      return [
        ["p50", quiet(points.map((p) => p?.latency_us.p50 ?? null))],
        ["p99", quiet(points.map((p) => p?.latency_us.p99 ?? null))],
        ...(shards.length > 1 && shards.length <= 6
          ? shards.map((s) => [`p99 shard ${s}`, quiet(own(points, "shards", [s, "p99"])), "thin"]) : []),
      ];
    },
  },
  {
    id: "frames", title: "Frames", axis: format.rate, value: format.rate, zero: true,
    series: (points) => [["frames", points.map((p) => p?.frames_per_s ?? null), "area"]],
  },
  {
    id: "cpu", title: "CPU", axis: (v) => `${format.measure(v)} %`, value: format.cpu, zero: true,
    series: (points) => names(points, "processes").map((n) => [n, own(points, "processes", [n, "cpu_percent"])]),
  },
  {
    id: "memory", title: "Memory", axis: (v) => `${format.measure(v)} MB`, value: format.megabytes, zero: true,
    series: (points) => names(points, "processes").map((n) => [n, own(points, "processes", [n, "rss_mb"])]),
  },
];

export class Charts {
  #points = [];
  #grain = 1;
  #marks = [];
  #plots = new Map();
  #span = "10m";
  #asked = 0;
  #clock = 0;

  constructor() {
    this.room = byId("charts");
    this.boxes = CHARTS.map((chart) => {
      const box = make("div", { class: "plot", id: `chart-${chart.id}` });
      this.room.append(make("figure", {}, make("figcaption", { text: chart.title }), box));
      return box;
    });
    this.#buttons();
    put(byId("mark"), LEGEND);
    new ResizeObserver(() => this.#resize()).observe(this.room);
    document.addEventListener("themechange", () => this.#redraw());
  }

  /** Take points and events of a message; `now` is the server's clock, unix ms. */
  take({ points = [], events = [], now }) {
    this.#clock = now / 1_000;
    for (const { ts, kind, text, symbol, reason } of events) {
      if (MARKED.includes(kind)) this.#marks.push({ ts: ts / 1e9, kind, text: [symbol, text, reason].filter(Boolean).join(" · ") });
    }
    this.#marks = this.#marks.slice(-500);
    const last = this.#points.at(-1)?.ts ?? 0;
    const fresh = points.filter(({ ts }) => ts > last);
    const byMinute = SPANS[this.#span][1] > BY_SECOND_S;
    if (byMinute || !last || (fresh.length && fresh[0].ts > last + 5)) {
      if (performance.now() - this.#asked > (byMinute ? REFRESH_MS : 2_000)) this.#fetch();
      if (byMinute || !last) return;
    }
    this.#points.push(...fresh);
    const since = this.#clock - SPANS[this.#span][1];
    if (this.#points.length && this.#points[0].ts < since - 60) this.#points = this.#points.filter(({ ts }) => ts >= since);
    if (fresh.length || events.length) this.#draw();
  }

  async #fetch() {
    const span = this.#span;
    this.#asked = performance.now() || 1;
    try {
      const answer = await fetch(`history?span=${span}`);
      if (!answer.ok) return;
      const { grain_s, points } = await answer.json();
      if (span !== this.#span) return;
      this.#grain = grain_s;
      this.#points = points;
      this.#draw();
    } catch { /* the banner says that the server is away; it is asked again */ }
  }

  #buttons() {
    byId("spans").append(
      ...Object.entries(SPANS).map(([span, [text]]) => {
        const button = make("button", { type: "button", text, "aria-pressed": String(span === this.#span) });
        button.addEventListener("click", () => {
          this.#span = span;
          this.#points = [];
          for (const other of byId("spans").children) other.setAttribute("aria-pressed", String(other === button));
          this.#fetch();
        });
        return button;
      }),
    );
  }

  /** Points with an empty one wherever some are missing, so that lines break there. */
  #whole() {
    const found = [];
    for (const point of this.#points) {
      const before = found.at(-1);
      if (before && point.ts - before.ts > HOLE * this.#grain) found.push({ ts: before.ts + this.#grain });
      found.push(point);
    }
    return found;
  }

  #draw() {
    if (this.room.offsetWidth === 0) return; // another page is open
    const points = this.#whole();
    if (!points.length) return;
    const times = points.map(({ ts }) => ts);
    const shown = points.map((point) => (point.latency_us ? point : null));
    CHARTS.forEach((chart, i) => {
      const series = chart.series(shown);
      const key = series.map(([name]) => name).join();
      let plot = this.#plots.get(chart.id);
      const data = [times, ...series.map(([, values]) => values)];
      if (plot?.key !== key) {
        plot?.plot.destroy();
        plot = { key, plot: new uPlot(this.#options(chart, series), data, this.boxes[i]) };
        this.#plots.set(chart.id, plot);
      } else plot.plot.setData(data);
      if (plot.plot.cursor.left < 0 || plot.plot.cursor.left === undefined) plot.plot.setLegend({ idx: lastFull(data) });
    });
  }

  #options(chart, series) {
    const grid = { stroke: css("--rule"), width: 1 };
    const axis = { stroke: css("--muted"), grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    return {
      width: this.room.firstChild.clientWidth,
      height: 112,
      padding: [6, 22, 0, 0],
      cursor: { sync: { key: SYNC.key }, points: { size: 6 }, drag: { x: false, y: false } },
      legend: { live: true, markers: { fill: (plot, i) => plot.series[i].stroke(plot, i), width: 0 } },
      scales: {
        x: { time: true, range: () => this.#extent() },
        y: chart.log ? { distr: 3 } : chart.range ? { range: (_, ...extent) => chart.range(...extent) }
          : { range: (_, __, max) => [0, Math.max(max || 0, 1) * 1.1] },
      },
      axes: [
        { ...axis, size: 22, space: 62, values: (_, splits, __, ___, step) => splits.map((ts) => format.tick(ts * 1_000, step)) },
        { ...axis, size: 58, space: 26, ...(chart.log ? { splits: powers } : {}), values: (_, splits) => splits.map((v) => (v === null ? "" : chart.axis(v))) },
      ],
      series: [
        { label: "at", value: (_, ts) => (ts ? format.time(ts * 1_000) : "–") },
        ...series.map(([label, , how], i) => {
          const stroke = css(`--line-${i % 8}`);
          return {
            label, stroke, points: { show: false },
            width: how === "thin" ? 1 : 1.6,
            dash: how === "thin" ? [3, 3] : i >= 8 ? [6, 3] : undefined,
            fill: how === "area" ? `${stroke}22` : undefined,
            value: (_, v) => (v === null || v === undefined ? "–" : chart.value(v)),
          };
        }),
      ],
      hooks: { draw: [(plot) => this.#mark(plot)], setCursor: [(plot) => this.#read(plot)] },
    };
  }

  #extent() {
    const until = Math.max(this.#points.at(-1)?.ts ?? 0, this.#grain > 1 ? 0 : this.#clock - 2);
    const span = SPANS[this.#span][1];
    // A young collector's first minutes fill the width.
    const first = this.#points[0]?.ts ?? until - span;
    return [Math.max(until - span, Math.min(first, until - 60)), until];
  }

  #mark(plot) {
    const { ctx, bbox } = plot;
    const scale = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left - 6 * scale, 0, bbox.width + 12 * scale, bbox.top + bbox.height);
    ctx.clip();
    ctx.textAlign = "center";
    ctx.font = `${10 * scale}px system-ui, sans-serif`;
    const last = {};
    for (const { ts, kind } of this.#marks) {
      const x = plot.valToPos(ts, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width || x - (last[kind] ?? -Infinity) < 2) continue;
      last[kind] = x;
      ctx.strokeStyle = ctx.fillStyle = css(`--kind-${kind}`);
      ctx.lineWidth = scale;
      ctx.setLineDash([2 * scale, 2 * scale]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top + (kind === "gap" ? 9 : 19) * scale);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.fillText(KINDS[kind], x, bbox.top + (kind === "gap" ? 8 : 18) * scale);
    }
    ctx.restore();
  }

  /** Read the mark out that the cursor is at. */
  #read(plot) {
    const { left } = plot.cursor;
    if (left === undefined || left < 0) return;
    let near = null;
    for (const mark of this.#marks) {
      const away = Math.abs(plot.valToPos(mark.ts, "x") - left);
      if (away <= NEAR && (near === null || away < near.away)) near = { away, mark };
    }
    put(byId("mark"), near ? `${KINDS[near.mark.kind]} ${format.time(near.mark.ts * 1_000)} ${near.mark.text}` : LEGEND);
  }

  #resize() {
    const width = this.room.firstChild.clientWidth;
    if (width === 0) return;
    if (this.#plots.size === 0) return this.#draw();
    for (const { plot } of this.#plots.values()) if (plot.width !== width) plot.setSize({ width, height: plot.height });
  }

  #redraw() {
    for (const { plot } of this.#plots.values()) plot.destroy();
    this.#plots.clear();
    this.#draw();
  }
}

/** The powers of ten on a logarithmic axis; there may be just one within a factor of ten. */
function powers(_, __, min, max) {
  const found = [];
  for (let power = 10 ** Math.floor(Math.log10(min)); power <= max; power *= 10) if (power >= min) found.push(power);
  return found;
}

/** The newest place at which there is any value. */
function lastFull([times, ...series]) {
  for (let i = times.length - 1; i >= 0; i--) if (series.some((values) => values[i] !== null)) return i;
  return times.length - 1;
}
