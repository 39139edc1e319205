"""
What keys cost: CPU of publisher and reader per delivered frame, with CURVE and without.

``python -m bench.curve [--frames 200000]`` publishes frames of the usual size over loopback from
one process to another, through the gate that `collector start --keys` puts there. Neither side does
anything else with a frame, so the ratio is the worst case: the other work of a real publisher and
reader costs the same with and without keys. CPU is the two processes' own, so a busy machine
changes it little.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

import click
import zmq

from collector.access import authorized_file, key_files
from collector.access.gate import FRAMES, Gate
from collector.access.key_files import Keys
from collector.access.subscriptions import Subscriptions
from collector.client.sockets import PLAIN, connected
from collector.settings.parts import AccessConfig
from shards.push import plain_send

_BODY: Final = bytes(450)
_BURST: Final = 16
_QUEUE: Final = 20_000
_SNDMORE: Final = int(zmq.SNDMORE)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def publish(folder: str, frames: int) -> None:
    """Publish to one reader, once it is there; print the CPU of a frame in µs."""
    keys = Path(folder, "server.key")
    config = AccessConfig(
        keys=str(keys) if keys.exists() else "", authorized=f"{folder}/{authorized_file.FILE}"
    )
    gate = Gate(config)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    gate.start(context)
    socket = context.socket(zmq.XPUB)
    # It waits for the reader: each frame is delivered.
    socket.setsockopt(zmq.XPUB_NODROP, 1)
    socket.setsockopt(zmq.SNDHWM, _QUEUE)
    subscriptions = Subscriptions(socket, gate)
    gate.prepare(FRAMES, socket, is_public=True)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    print(port, flush=True)
    while not subscriptions.number:
        socket.poll(100)
        subscriptions.drain()
    send = plain_send(socket)
    began = _cpu()
    for number in range(frames):
        send(b"book.INJ-USDT.", _SNDMORE)
        send(_BODY)
        if number % _BURST == 0:
            # About the time that an aggregator spends between sends, so that libzmq's thread keeps
            # up.
            time.sleep(0)
    socket.close(linger=60_000)
    gate.stop()
    context.destroy(linger=60_000)
    print(1e6 * (_cpu() - began) / frames)


def read(folder: str, frames: int, port: int) -> None:
    """Read that many frames; print the CPU of one in µs."""
    path = Path(folder, "reader.key")
    keys = Keys.read(path) if path.exists() else PLAIN
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = connected(context, zmq.SUB, f"tcp://127.0.0.1:{port}", hwm=_QUEUE, keys=keys)
    socket.subscribe(b"")
    receive = socket.recv
    receive(), receive()
    began = _cpu()
    for _ in range(frames - 1):
        receive(), receive()
    print(1e6 * (_cpu() - began) / frames)
    context.destroy(linger=0)


def once(frames: int, *, with_keys: bool) -> tuple[float, float]:
    """Measure one run: CPU of publisher and reader, µs a frame."""
    with tempfile.TemporaryDirectory() as folder:
        if with_keys:
            server = key_files.make("server")
            reader = key_files.make("reader", server=server.public)
            for keys in (server, reader):
                key_files.write(keys, Path(folder))
            entry = authorized_file.of_public(key_files.public_part(reader))
            authorized_file.add(Path(folder, authorized_file.FILE), entry)

        def begin(*arguments: str) -> "subprocess.Popen[str]":
            command = [sys.executable, "-m", "bench.curve", "--part", *arguments]
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

        with begin(f"publish {folder} {frames}") as publisher:
            assert publisher.stdout is not None
            port = publisher.stdout.readline().strip()
            with begin(f"read {folder} {frames} {port}") as reading:
                said = reading.communicate(timeout=300)[0]
            return float(publisher.communicate(timeout=300)[0]), float(said)


@click.command()
@click.option("--frames", default=200_000)
@click.option("--runs", default=3)
@click.option("--part", default="", hidden=True)
def main(frames: int, runs: int, part: str) -> None:
    """Print the medians and their ratio as JSON."""
    if part:
        what, folder, number, *port = part.split()
        publish(folder, int(number)) if what == "publish" else read(
            folder, int(number), int(port[0])
        )
        return
    # In turn, so that the machine is equally busy for both.
    pairs = [(once(frames, with_keys=False), once(frames, with_keys=True)) for _ in range(runs)]
    found = {
        name: [median(side) for side in zip(*sides, strict=True)]
        for name, sides in zip(("plain", "curve"), zip(*pairs, strict=True), strict=True)
    }
    ratio = sum(found["curve"]) / sum(found["plain"])
    rounded = {name: [round(us, 2) for us in pair] for name, pair in found.items()}
    click.echo(json.dumps({"us_publisher_and_reader": rounded, "ratio": round(ratio, 2)}))


if __name__ == "__main__":
    main()
