// The grid of markets: colour is state, brightness is activity. A market keeps its place.

import { ACTIVITY, STATES, byId, make, put } from "./states.js";

// More than fit with their names are tiles, whose names show when they are pointed at: that all
// markets are in sight at once matters more.
const NAMED = 56, NAMED_ON_A_PHONE = 27, TILES = 160;
const phone = matchMedia("(max-width: 900px)");

export class Grid {
  #symbols = [];
  #cells = [];
  #links = [];
  #wanted = "";
  #state = null;

  constructor() {
    this.grid = byId("grid");
    this.pointed = byId("pointed");
    this.states = byId("states");
    byId("filter").addEventListener("input", ({ target }) => {
      this.#wanted = target.value.trim().toUpperCase();
      this.#filter();
    });
    phone.addEventListener("change", () => this.#filter());
    this.grid.addEventListener("keydown", (event) => this.#walk(event));
    for (const type of ["pointerover", "focusin"]) {
      this.grid.addEventListener(type, ({ target }) => this.#point(target.closest("a")));
    }
  }

  take({ listing, cells }) {
    if (listing) this.#list(listing);
    for (const [place, state, activity, shard, reason] of cells ?? []) {
      this.#cells[place] = { state, activity, shard, reason };
      this.#draw(place);
    }
    if (listing || cells) {
      this.#chips();
      if (this.#state !== null) this.#filter();
    }
  }

  cell(symbol) {
    return this.#cells[this.#symbols.indexOf(symbol)];
  }

  #list(symbols) {
    this.#symbols = symbols;
    this.#cells = symbols.map(() => ({ state: "pending", activity: 0, shard: -1, reason: "" }));
    this.#links = symbols.map((symbol) => {
      const glyph = make("span", { class: "glyph", "aria-hidden": "true" });
      const name = make("span", { class: "name", text: symbol });
      return make("a", { href: `#/market/${encodeURIComponent(symbol)}`, tabindex: "-1" }, glyph, name);
    });
    this.grid.replaceChildren(...this.#links.map((link) => make("li", {}, link)));
    this.#links[0]?.setAttribute("tabindex", "0");
    this.#filter();
  }

  #draw(place) {
    const link = this.#links[place];
    const { state, activity, shard, reason } = this.#cells[place];
    link.dataset.state = state;
    link.dataset.activity = activity;
    put(link.firstChild, STATES[state] ?? "?");
    link.setAttribute("aria-label", this.#describe(place));
    link.title = `${this.#describe(place)}, shard ${shard}${reason ? `: ${reason}` : ""}`;
  }

  #describe(place) {
    const { state, activity } = this.#cells[place];
    return `${this.#symbols[place]}, ${state}, ${ACTIVITY[activity]}`;
  }

  #chips() {
    const counts = new Map();
    for (const { state } of this.#cells) counts.set(state, (counts.get(state) ?? 0) + 1);
    const chips = Object.entries(STATES)
      .filter(([state]) => counts.has(state) || state === this.#state)
      .map(([state, glyph]) => [state, `${glyph} ${counts.get(state) ?? 0} ${state}`]);
    const key = chips.join();
    if (this.states.dataset.key === key) return;
    this.states.dataset.key = key;
    const focused = document.activeElement?.dataset.state;
    this.states.replaceChildren(
      ...chips.map(([state, text]) => {
        const pressed = String(state === this.#state);
        const chip = make("button", { type: "button", text, "data-state": state, "aria-pressed": pressed });
        chip.addEventListener("click", () => {
          this.#state = this.#state === state ? null : state;
          this.states.dataset.key = "";
          this.#chips();
          this.#filter();
        });
        return chip;
      }),
    );
    if (focused) this.states.querySelector(`[data-state="${focused}"]`)?.focus();
  }

  #filter() {
    let shown = 0;
    this.#links.forEach((link, place) => {
      const fits = this.#symbols[place].toUpperCase().includes(this.#wanted)
        && (this.#state === null || this.#cells[place].state === this.#state);
      link.parentElement.hidden = !fits;
      shown += fits;
    });
    const named = phone.matches ? NAMED_ON_A_PHONE : NAMED;
    this.grid.dataset.size = shown <= named ? "named" : shown <= TILES ? "tiles" : "small";
    if (shown === 0 && this.#symbols.length) put(this.pointed, "no market fits");
    else if (this.pointed.textContent === "no market fits") put(this.pointed, "");
  }

  /** Arrow keys walk from cell to cell, so that the grid is one stop of the Tab key. */
  #walk(event) {
    const visible = this.#links.filter((link) => !link.parentElement.hidden);
    const here = visible.indexOf(document.activeElement);
    if (here < 0) return;
    const top = visible[here].offsetTop;
    const row = visible.findIndex((link) => link.offsetTop === top);
    const next = visible.findIndex((link) => link.offsetTop > top);
    const wide = next < 0 ? visible.length - row : next - row;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: wide, ArrowUp: -wide };
    const to = event.key === "Home" ? 0
      : event.key === "End" ? visible.length - 1
      : event.key in steps ? here + steps[event.key] : -1;
    if (to < 0 || to >= visible.length) return;
    event.preventDefault();
    visible[here].setAttribute("tabindex", "-1");
    visible[to].setAttribute("tabindex", "0");
    visible[to].focus();
  }

  #point(link) {
    if (link) put(this.pointed, link.title);
  }
}
