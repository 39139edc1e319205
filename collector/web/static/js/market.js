// The page of one market: its book as depth and as levels, its last trades, how far it is.

import { byId, make, put, STATES } from "./states.js";
import { addEvents, figures, table } from "./overview.js";
import * as format from "./format.js";

const TRADES = 60;
const LEVELS = 12;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class MarketPage {
  #symbol = null;
  #book = null;
  #row = null;
  #trades = new Map();
  #plot = null;
  #skew = 0;

  constructor() {
    document.addEventListener("themechange", () => { this.#forget(); this.#depth(); });
    new ResizeObserver(() => this.#fit()).observe(byId("depth"));
    setInterval(() => this.#facts(), 500);
  }

  /** Show a market, or none. */
  open(symbol, events) {
    this.#symbol = symbol;
    this.#book = this.#row = null;
    this.#trades.clear();
    this.#forget();
    for (const id of ["levels", "trades", "market-facts", "market-events"]) byId(id).replaceChildren();
    byId("market-events").dataset.last = 0;
    this.#trouble("");
    if (symbol === null) return;
    put(byId("h-market"), symbol);
    put(byId("market-state"), "");
    addEvents(byId("market-events"), events, symbol);
  }

  take({ market, events, now }) {
    this.#skew = now - Date.now();
    if (this.#symbol === null) return;
    if (events) addEvents(byId("market-events"), events, this.#symbol);
    if (market?.symbol !== this.#symbol) return;
    if ("trouble" in market) this.#trouble(market.trouble);
    if (market.row !== undefined) this.#row = market.row;
    if ("book" in market) {
      this.#book = market.book;
      this.#depth();
      this.#levels();
    }
    if (market.trades) this.#tape(market.trades);
    this.#facts();
  }

  #trouble(text) {
    byId("market-trouble").hidden = text === "";
    put(byId("market-trouble"), text);
  }

  #facts() {
    if (this.#symbol === null || this.#row === null) return;
    const row = this.#row, book = this.#book;
    const now = Date.now() + this.#skew;
    const state = byId("market-state");
    state.dataset.state = row.state;
    put(state, `${STATES[row.state] ?? "?"} ${row.state}${row.reason ? `: ${row.reason}` : ""}`);
    const bid = book?.bids[0], ask = book?.asks[0];
    const spread = bid && ask ? Number(ask[0]) - Number(bid[0]) : null;
    const last = this.#newest();
    const synced = book ? "" : "the book is not in sync";
    figures(byId("market-facts"), [
      ["best bid", bid ? format.amount(bid[0]) : "–", bid ? `× ${format.amount(bid[1])}` : synced],
      ["best ask", ask ? format.amount(ask[0]) : "–", ask ? `× ${format.amount(ask[1])}` : synced],
      ["spread", spread === null ? "–" : format.measure(spread), spread === null ? "" : `${((spread / Number(ask[0])) * 10_000).toFixed(1)} bp`],
      ["height", format.count(row.height), `shard ${row.shard}`],
      ["sequence", book ? format.count(book.sequence) : "–", book ? `from ${book.source}` : ""],
      ["age of the book", book?.ts ? format.age(now - book.ts) : "–", book ? `${book.levels[0]} bids, ${book.levels[1]} asks` : ""],
      ["last trade", last ? format.amount(last.price) : "–", last ? `${format.age(now - last.ts)} ago` : ""],
      ["trades", format.count(row.trades ?? 0), `${format.count(row.book_updates ?? 0)} book updates`],
    ]);
  }

  #newest() {
    let newest = null;
    for (const trade of this.#trades.values()) if (!newest || older(newest, trade)) newest = trade;
    return newest;
  }

  #tape(trades) {
    for (const trade of trades) this.#trades.set(trade.trade_id, trade);
    const kept = [...this.#trades.values()].sort((a, b) => (older(a, b) ? 1 : -1)).slice(0, TRADES);
    this.#trades = new Map(kept.map((trade) => [trade.trade_id, trade]));
    table(
      byId("trades"), ["time", "side", "price", "quantity", "kind"],
      kept.map(({ ts, side, price, quantity, kind }) => ({
        tone: side,
        cells: [format.time(ts), side === "buy" ? "▲ buy" : "▼ sell", format.amount(price), format.amount(quantity), kind],
      })),
    );
  }

  #levels() {
    const { bids = [], asks = [] } = this.#book ?? {};
    const rows = Math.min(LEVELS, Math.max(bids.length, asks.length));
    table(
      byId("levels"), ["bid quantity", "bid", "ask", "ask quantity"],
      Array.from({ length: rows }, (_, i) => ({
        cells: [
          bids[i] ? format.amount(bids[i][1]) : "", bids[i] ? format.amount(bids[i][0]) : "",
          asks[i] ? format.amount(asks[i][0]) : "", asks[i] ? format.amount(asks[i][1]) : "",
        ],
      })),
    );
  }

  #depth() {
    const data = depthOf(this.#book);
    if (data === null) return this.#forget();
    if (this.#plot === null) {
      byId("depth").replaceChildren();
      this.#plot = new uPlot(this.#options(), data, byId("depth"));
    } else this.#plot.setData(data);
    byId("depth").dataset.levels = data[0].length;
  }

  #options() {
    const axis = { stroke: css("--muted"), grid: { stroke: css("--rule"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const side = (label, colour, align) => ({
      label, stroke: css(colour), fill: `${css(colour)}33`, width: 1.6, points: { show: false },
      paths: uPlot.paths.stepped({ align }),
      value: (_, v) => (v === null || v === undefined ? "–" : format.measure(v)),
    });
    return {
      width: byId("depth").clientWidth, height: 240, padding: [8, 10, 0, 0],
      cursor: { drag: { x: false, y: false } },
      scales: { x: { time: false, range: () => middle(this.#book) }, y: { range: (_, __, max) => [0, (max || 1) * 1.05] } },
      axes: [
        { ...axis, size: 24, space: 80, values: (_, splits) => splits.map(format.measure) },
        { ...axis, size: 62, values: (_, splits) => splits.map(format.measure) },
      ],
      series: [
        { label: "price", value: (_, v) => (v === null || v === undefined ? "–" : format.measure(v)) },
        side("bids up to here", "--buy", -1),
        side("asks up to here", "--sell", 1),
      ],
    };
  }

  #forget() {
    this.#plot?.destroy();
    this.#plot = null;
    byId("depth").dataset.levels = 0;
    if (this.#symbol !== null && this.#book === null) byId("depth").replaceChildren(make("p", { class: "empty", text: "waiting for the book" }));
  }

  #fit() {
    const width = byId("depth").clientWidth;
    if (this.#plot && width && this.#plot.width !== width) this.#plot.setSize({ width, height: 240 });
  }
}

/** Sums of quantity from the middle outwards, over ascending prices. */
function depthOf(book) {
  if (!book || (!book.bids.length && !book.asks.length)) return null;
  const sums = (levels) => {
    let sum = 0;
    return levels.map(([price, quantity]) => [Number(price), (sum += Number(quantity))]);
  };
  const bids = sums(book.bids).reverse(), asks = sums(book.asks);
  return [
    [...bids, ...asks].map(([price]) => price),
    [...bids.map(([, sum]) => sum), ...asks.map(() => null)],
    [...bids.map(() => null), ...asks.map(([, sum]) => sum)],
  ];
}

/** The prices around the middle that hold most levels: one far order must not flatten the rest. */
function middle(book) {
  if (!book) return [0, 1];
  const { bids, asks } = book;
  const best = [bids[0], asks[0]].filter(Boolean).map(([price]) => Number(price));
  const mid = best.reduce((a, b) => a + b, 0) / best.length;
  const reach = Math.max(
    ...[bids, asks].filter((side) => side.length).map((side) => {
      const far = side[Math.floor((side.length - 1) * 0.8)];
      return Math.abs(Number(far[0]) - mid);
    }),
    mid * 1e-6,
  );
  return [mid - reach * 1.1, mid + reach * 1.1];
}

/** Whether a trade came before another; ids are {height}_{n}. */
function older(a, b) {
  const [heightA, nA] = a.trade_id.split("_").map(Number);
  const [heightB, nB] = b.trade_id.split("_").map(Number);
  return heightA < heightB || (heightA === heightB && nA < nB);
}
