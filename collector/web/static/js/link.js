// The live connection: one message is shown before the next is asked for, so a slow or hidden
// page is sent fewer, newer ones. It is made anew, for ever, when it breaks or falls silent.

const SILENT_MS = 8_000;
const HIDDEN_MS = 2_000;
const LONGEST_WAIT_MS = 4_000;

export class Link {
  #socket = null;
  #attempts = 0;
  #heardAt = 0;
  #open = null;

  constructor({ onMessage, onOpen, onLost }) {
    this.onMessage = onMessage;
    this.onOpen = onOpen;
    this.onLost = onLost;
    setInterval(() => this.#watch(), 1_000);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.#watch(); });
    this.#connect();
  }

  /** Say which market's page is open; null for none. */
  open(symbol) {
    this.#open = symbol;
    this.#say({ open: symbol });
  }

  #say(what) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(what));
  }

  #connect() {
    const url = new URL("live", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.hash = "";
    const socket = (this.#socket = new WebSocket(url));
    this.#heardAt = performance.now();
    socket.onopen = () => this.onOpen();
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#attempts = 0;
      this.#heardAt = performance.now();
      const message = JSON.parse(data);
      this.onMessage(message);
      // A market can only be opened once the server knows the markets itself.
      if (message.listing && this.#open !== null) this.#say({ open: this.#open });
      const seen = () => this.#say({ seen: message.n });
      if (document.hidden) setTimeout(seen, HIDDEN_MS);
      else requestAnimationFrame(seen);
    };
    socket.onclose = () => { if (socket === this.#socket) this.#lost(); };
  }

  #lost() {
    this.#socket = null;
    this.onLost();
    const wait = Math.min(LONGEST_WAIT_MS, 250 * 2 ** this.#attempts++) * (0.5 + Math.random() / 2);
    setTimeout(() => this.#connect(), wait);
  }

  /** A connection that says nothing at all is dead, whatever the browser thinks of it. */
  #watch() {
    if (this.#socket === null || document.hidden) return;
    if (performance.now() - this.#heardAt < SILENT_MS) return;
    const socket = this.#socket;
    this.#socket = null;
    socket.close();
    this.#lost();
  }
}
