// The figures on top, the processes, what is not as it should be, the events.

import { byId, KINDS, make, put } from "./states.js";
import * as format from "./format.js";

const SHOWN_EVENTS = 200;
const HOPS = {
  block_to_recv: "block time → received",
  recv_to_decoded: "received → decoded",
  decoded_to_pushed: "decoded → pushed",
  push_to_aggregator: "pushed → aggregator",
  aggregator_to_published: "aggregator → published",
  block_span: "a block, first byte → last frame",
};

/** A list of figures: name, value, remark, and whether that is as it should be. */
export function figures(list, rows) {
  if (list.children.length !== rows.length) {
    list.replaceChildren(...rows.map(() => make("div", {}, make("dt"), make("dd"), make("dd", { class: "more" }))));
  }
  rows.forEach(([name, value, more, tone = ""], i) => {
    const [term, figure, remark] = list.children[i].children;
    put(term, name);
    put(figure, value);
    put(remark, more ?? "");
    list.children[i].dataset.tone = tone;
  });
}

/** A table whose cells are changed in place. */
export function table(element, head, rows) {
  if (!element.tHead || element.tHead.rows[0].cells.length !== head.length) {
    const cells = head.map((text) => make("th", { scope: "col", text }));
    element.replaceChildren(make("thead", {}, make("tr", {}, ...cells)), make("tbody"));
  }
  const body = element.tBodies[0];
  while (body.rows.length > rows.length) body.lastChild.remove();
  rows.forEach((row, i) => {
    const line = body.rows[i] ?? body.appendChild(make("tr", {}, ...row.cells.map((_, j) => make(j ? "td" : "th", j ? {} : { scope: "row" }))));
    row.cells.forEach((text, j) => put(line.cells[j], text));
    line.dataset.tone = row.tone ?? "";
  });
}

export class Overview {
  #frames = null;
  #perSecond = null;

  take({ status, events, now, collectors }) {
    if (collectors) this.#cells(collectors, now);
    if (status) this.#show(status, now);
    if (events) addEvents(byId("events"), events);
  }

  #show(status, now) {
    this.#measure(status, now);
    const { markets, coverage, blocks, gaps, frames } = status;
    const wanted = markets.requested - markets.inactive;
    const latency = status.latency_us.recv_to_aggregator;
    figures(byId("figures"), [
      ["coverage", format.share(coverage.now), `${markets.live} of ${wanted} live, mean ${format.share(coverage.mean, 1)}`, coverage.now < 1 ? "warn" : "good"],
      blocks.provable === false ? ["completeness", "–", "the indexer tells no blocks"] : ["completeness", format.share(status.completeness, 4), `${format.count(blocks.replayed)} replayed, ${format.count(blocks.missing)} missing`, blocks.missing ? "warn" : "good"],
      ["head", format.count(blocks.head), status.halted ? "the chain is halted" : status.block_time_s ? `a block every ${status.block_time_s.toFixed(2)} s` : "", status.halted ? "warn" : ""],
      ["frames", this.#perSecond === null ? "–" : format.rate(this.#perSecond), `${format.count(frames.published)} published, ${format.count(frames.dropped)} dropped`, frames.dropped ? "warn" : ""],
      ["latency p99", format.micros(latency.p99), `p50 ${format.micros(latency.p50)}, max ${format.micros(latency.max)}`],
      ["open gaps", format.count(gaps.open), `${format.count(gaps.closed)} closed`, gaps.open ? "warn" : "good"],
    ]);
    document.title = `${coverage.now < 1 ? "▲" : "●"} ${markets.live}/${wanted} live · collector`;
    this.#processes(status);
    this.#hops(status);
    this.#troubles(status);
    put(byId("about"), `collector ${status.version}`);
  }

  #cells(rows, now) {
    byId("cells").hidden = rows.length < 2;
    if (rows.length < 2) return;
    table(
      byId("cell-rows"),
      ["cell", "live", "block", "completeness", "missing", "gaps", "trades", "latency p99", "version"],
      rows.map((row) => {
        const name = `${row.chosen ? "▸ " : ""}${row.endpoint}${row.part ? ` (part ${row.part})` : ""}`;
        const silent = row.error ?? (row.silent_since === null ? null : `no answer for ${format.age(now - row.silent_since)}`);
        if (silent !== null) return { tone: "bad", cells: [name, silent, "", "", "", "", "", "", ""] };
        return {
          tone: row.live < row.wanted || row.gaps || row.halted ? "warn" : "",
          cells: [
            name, `${row.live} of ${row.wanted}`, format.count(row.head) + (row.halted ? ", halted" : ""), row.completeness === null ? "–" : format.share(row.completeness, 4),
            format.count(row.missing), format.count(row.gaps), format.count(row.trades), format.micros(row.p99), row.version,
          ],
        };
      }),
    );
  }

  #measure({ frames, publisher_epoch }, now) {
    const before = this.#frames;
    if (before && before.epoch === publisher_epoch && now - before.now < 900) return;
    this.#perSecond = before?.epoch === publisher_epoch ? (frames.published - before.published) / ((now - before.now) / 1_000) : null;
    this.#frames = { now, published: frames.published, epoch: publisher_epoch };
  }

  #processes({ processes, shards }) {
    const byName = new Map(shards.map((shard) => [`shard ${shard.shard}`, shard]));
    table(
      byId("processes"),
      ["process", "pid", "CPU", "memory", "restarts", "markets", "block", "loop lag"],
      processes.map(({ name, pid, cpu_percent, rss_mb, restarts }) => {
        const shard = byName.get(name);
        return {
          tone: !pid || rss_mb === 0 ? "bad" : restarts ? "warn" : "",
          cells: [
            name, pid ? String(pid) : "–", format.cpu(cpu_percent), format.megabytes(rss_mb), String(restarts),
            shard ? String(shard.markets) : "", shard?.blocks ? format.count(shard.blocks) : "", shard ? format.micros(shard.lag_us) : "",
          ],
        };
      }),
    );
  }

  #hops({ latency_us, clock }) {
    const quantiles = ["p50", "p90", "p99", "p999", "max"];
    table(
      byId("hops"), ["", "p50", "p90", "p99", "p99.9", "max"],
      Object.entries(HOPS).filter(([hop]) => latency_us[hop]?.count).map(([hop, name]) => ({
        tone: hop === "block_to_recv" && clock && !clock.trusted ? "doubtful" : "",
        cells: [name, ...quantiles.map((q) => format.micros(latency_us[hop][q]))],
      })),
    );
    put(byId("clock"), clock && !clock.trusted && clock.blocks ? `The first line cannot be trusted: ${clock.reason}` : "");
  }

  #troubles({ breakers, holes, holed, worse }) {
    const lines = [
      ...worse.map(({ endpoint, reason }) => `${KINDS.breaker} ${endpoint} is the worse node: ${reason}`),
      ...breakers.map(({ endpoint, breaker, reason }) => `${KINDS.breaker} breaker of ${endpoint} is ${breaker}: ${reason}`),
      ...holes.map(({ symbol, heights }) => `${KINDS.gap} ${symbol} lacks blocks ${heights.map(([a, b]) => (a === b ? a : `${a}–${b}`)).join(", ")}`),
    ];
    if (holed > holes.length) lines.push(`${KINDS.gap} and ${holed - holes.length} markets more`);
    const list = byId("troubles");
    if (list.dataset.key === lines.join()) return;
    list.dataset.key = lines.join();
    list.replaceChildren(...lines.map((text) => make("li", { text })));
  }
}

/** Put events, oldest first, on top of a list of the newest; `symbol` narrows to one market. */
export function addEvents(list, events, symbol = null) {
  const wanted = symbol === null ? events : events.filter((event) => event.symbol === symbol);
  if (!wanted.length) return;
  const known = Number(list.dataset.last ?? 0);
  if (events.at(-1).id < known) list.replaceChildren(); // a new journal has begun
  const fresh = wanted.filter(({ id }) => !list.querySelector(`[data-id="${id}"]`));
  list.prepend(...fresh.reverse().map(line));
  list.dataset.last = events.at(-1).id;
  while (list.children.length > SHOWN_EVENTS) list.lastChild.remove();
}

function line({ id, ts, kind, shard, symbol, text, reason }) {
  const who = symbol
    ? make("a", { href: `#/market/${encodeURIComponent(symbol)}`, text: symbol })
    : make("span", { text: shard === null || text.startsWith(`shard ${shard}`) ? "" : `shard ${shard}:` });
  const what = make("span", { text: ` ${text}` });
  const why = make("span", { class: "why", text: reason ? ` ${reason}` : "" });
  return make(
    "li", { "data-kind": kind, "data-id": id },
    make("time", { text: format.time(ts / 1e6), datetime: new Date(ts / 1e6).toISOString() }),
    make("span", { class: "glyph", text: KINDS[kind] ?? "·", title: kind }),
    make("p", {}, who, what, why),
  );
}
