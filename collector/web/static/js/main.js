// Puts the page together: the link, what it brings, which page is open, what the banner says.

import { Charts } from "./charts.js";
import { Grid } from "./grid.js";
import { Link } from "./link.js";
import { MarketPage } from "./market.js";
import { Overview } from "./overview.js";
import { byId, put } from "./states.js";
import * as format from "./format.js";

const KEPT_EVENTS = 300;

const grid = new Grid();
const charts = new Charts();
const overview = new Overview();
const page = new MarketPage();
let events = [];
let silentSince = null; // the collector does not answer the server, unix ms
let silentWhy = ""; // what it said instead
let lostSince = null; // the server does not answer us
let updates = 0;

const link = new Link({
  onOpen: () => { lostSince = null; tell(); },
  onLost: () => { lostSince ??= Date.now(); tell(); },
  onMessage: (message) => {
    if ("silent_since" in message) silentSince = message.silent_since;
    if ("silent_why" in message) silentWhy = message.silent_why;
    if (message.events) {
      if (message.events.at(-1).id < (events.at(-1)?.id ?? 0)) events = [];
      events = [...events, ...message.events].slice(-KEPT_EVENTS);
    }
    for (const part of [grid, overview, charts, page]) part.take(message);
    document.body.dataset.updates = ++updates;
    tell();
  },
});

/** Say how the connection stands. */
function tell() {
  const state = lostSince !== null ? "lost" : silentSince !== null ? "silent" : updates ? "live" : "connecting";
  const banner = byId("banner");
  const since = lostSince ?? silentSince;
  const text = {
    lost: `This page has lost its server since ${format.time(since)}. Trying again; what you see is from before. `,
    silent: `The collector does not answer since ${format.time(since)}${silentWhy && `: ${silentWhy}`}. Asking again; what you see is from before. `,
  }[state] ?? "";
  banner.hidden = text === "";
  put(banner.firstElementChild, text);
  put(banner.lastElementChild, since === null ? "" : `(${format.age(Date.now() - since)})`);
  document.body.dataset.link = byId("link").dataset.link = state;
  put(byId("link"), { live: "● live", silent: "▲ no answer", lost: "✕ disconnected", connecting: "connecting …" }[state]);
}
setInterval(tell, 1_000);

/** Show what the address names: the overview, or one market. */
function route() {
  const [, symbol] = location.hash.match(/^#\/market\/(.+)$/) ?? [];
  const name = symbol === undefined ? null : decodeURIComponent(symbol);
  byId("overview").hidden = byId("figures").hidden = name !== null;
  byId("market").hidden = name === null;
  page.open(name, events);
  link.open(name);
  if (name !== null) byId("h-market").focus();
}
addEventListener("hashchange", route);
route();
