// Print frames without the collector's package: subscriber.mjs [ENDPOINT [COUNT [PREFIX [KEYFILE]]]]
import { readFileSync } from "node:fs";
import { decode } from "@msgpack/msgpack";
import { Subscriber } from "zeromq";

const [endpoint = "tcp://127.0.0.1:5590", count = "10", prefix = "", keyFile = ""] =
  process.argv.slice(2);
const socket = new Subscriber();
if (keyFile) {
  // `collector keys new` wrote it: one name = 'value' a line.
  const lines = readFileSync(keyFile, "utf8").matchAll(/^(\w+) = '(.*)'$/gm);
  const key = Object.fromEntries([...lines].map(([, name, value]) => [name, value]));
  socket.curvePublicKey = key.public;
  socket.curveSecretKey = key.secret;
  socket.curveServerKey = key.server;
}
socket.connect(endpoint);
socket.subscribe(prefix);
let left = Number(count);
for await (const [topic, body] of socket) {
  // Instants in ns are beyond 2^53: without useBigInt64 they lose their last digits.
  const [version, kind, ...rest] = decode(body, { useBigInt64: true });
  if (version !== 1) throw new Error(`frame version ${version}`);
  if (kind > 3) continue; // a channel that this reader does not know
  const event = rest.at(-1);
  const line =
    kind === 1 ? [event[1], event[2], event[3]] // book: height, sequence, ts_event
    : kind === 2 ? [event[1], event[5].length, event[2]] // trades: height, how many, ts_event
    : [event[4], event[1], event[6]]; // gap: first height, gap_id, ts
  console.log([topic.toString(), ...line].join(" "));
  if (--left <= 0) break;
}
socket.close();
