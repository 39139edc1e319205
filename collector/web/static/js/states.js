// The states of a market and the kinds of events: a glyph each, so that colour is never alone.

export const STATES = {
  live: "●",
  syncing: "◐",
  pending: "○",
  stale: "▲",
  failed: "✕",
  inactive: "–",
};

export const ACTIVITY = ["still", "slow", "moving", "busy", "very busy"];

export const KINDS = {
  state: "●",
  gap: "◆",
  restart: "↻",
  breaker: "⚡",
  halt: "■",
  connect: "⇄",
  move: "→",
  listing: "+",
};

/** The kinds that are marked on the time axis. */
export const MARKED = ["gap", "restart", "breaker", "halt", "move"];

/** Make an element: text and attributes, children after them. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") element.textContent = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Change a text only if it differs: screen readers and the layout are left in peace. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const byId = (id) => document.getElementById(id);
