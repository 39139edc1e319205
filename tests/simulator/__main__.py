"""Run the simulator by hand, or as a child: one JSON line when it serves, then commands."""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import click
import msgspec
import uvloop

from tests.simulator import control
from tests.simulator.exchange import Activity, SimBlock
from tests.simulator.markets import ALL_BUSY, Shares
from tests.simulator.venue import Options, Venue, running


@click.command()
@click.option("--markets", default=20, show_default=True, help="How many markets.")
@click.option("--seed", default=1, show_default=True, help="Equal seeds make equal exchanges.")
@click.option("--block-time", default=0.65, show_default=True, help="Seconds between blocks.")
@click.option("--speed", type=click.Choice(["paced", "max"]), default="paced", show_default=True)
# max: a block as soon as the sockets took the last; all: every book in every block.
@click.option("--touched", default="0.3", show_default=True, help="Chance of a change; or `all`.")
@click.option("--levels", default=0, help="Levels of each update.  [default: a few]")
@click.option("--matches", default=2.0, show_default=True, help="Matches per block, on average.")
@click.option("--quiet", type=float, help="Share of markets that never change.")
@click.option("--dead", type=float, help="Share of markets without a book.")
@click.option("--paused", type=float, help="Share of markets that are paused.")
@click.option("--blocks", default=0, help="Make only so many blocks.  [default: no end]")
@click.option("--wait-subscriptions", default=0, help="No block before so many subscriptions.")
@click.option("--buffer", default=100, show_default=True, help="Blocks queued before eviction.")
@click.option("--indexer-lag", default=0.0, show_default=True, help="Seconds behind the chain.")
@click.option("--indexer-streams", default=0, help="Its streams per connection.  [default: any]")
@click.option("--history", default=1_000, show_default=True, help="Blocks kept.")
@click.option("--chain-id", default="injective-777", show_default=True, help="The network's id.")
@click.option("--clock", "clock_ms", default=0, help="Unix ms at which the first block is due.")
@click.option("--truth", type=click.Path(path_type=Path), help="Write every block here, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the endpoints as one JSON line.")
def main(truth: Path | None, as_json: bool, **given: Any) -> None:
    """Serve a synthetic exchange until SIGTERM or the end of stdin. See faults.py for the menu."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(_options(given), truth, as_json=as_json))


def _options(given: dict[str, Any]) -> Options:
    """Turn what was typed into options."""
    everything = given["touched"] == "all"
    usual = ALL_BUSY if everything else Shares()
    typed = {name: given[name] for name in ("quiet", "dead", "paused") if given[name] is not None}
    activity = Activity(
        touched=1.0 if everything else float(given["touched"]),
        levels=given["levels"],
        matches=given["matches"],
        shares=msgspec.structs.replace(usual, **typed),
    )
    same = (
        *("seed", "markets", "blocks", "wait_subscriptions", "buffer", "history"),
        *("chain_id", "clock_ms"),
    )
    return Options(
        activity=activity,
        block_time_s=given["block_time"] if given["speed"] == "paced" else 0.0,
        indexer_lag_s=given["indexer_lag"],
        indexer_streams=given["indexer_streams"],
        **{name: given[name] for name in same},
    )


async def _serve(options: Options, truth: Path | None, *, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(options) as venue:
        if truth is not None:
            venue.on_block = _writer(truth.open("wb", buffering=0))
        _announce(venue, as_json=as_json)
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        threading.Thread(target=_read, args=(loop, lines), daemon=True).start()
        answering = asyncio.create_task(_answer(venue, lines, stop))
        await stop.wait()
        answering.cancel()


def _writer(file: IO[bytes]) -> Callable[[SimBlock], None]:
    def write(block: SimBlock) -> None:
        file.write(msgspec.json.encode(control.truth(block)) + b"\n")

    return write


def _announce(venue: Venue, *, as_json: bool) -> None:
    info = venue.info()
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(info) + b"\n")
    else:
        for name, endpoint in info["endpoints"].items():
            sys.stdout.write(f"{name:13} {endpoint}\n")
        sys.stdout.write(f"{len(info['markets'])} markets; faults and questions on stdin\n")
    sys.stdout.flush()


def _read(loop: asyncio.AbstractEventLoop, lines: "asyncio.Queue[bytes]") -> None:
    """Hand lines of stdin to the loop; an empty one is its end."""
    # A thread, because a file is nothing that an event loop can watch. Unbuffered, because a
    # daemon thread must hold no lock when the interpreter ends.
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        for line in stdin:
            if line.strip():
                loop.call_soon_threadsafe(lines.put_nowait, line)
    loop.call_soon_threadsafe(lines.put_nowait, b"")


async def _answer(venue: Venue, lines: "asyncio.Queue[bytes]", stop: asyncio.Event) -> None:
    while line := await lines.get():
        sys.stdout.buffer.write(await control.execute(venue, line) + b"\n")
        sys.stdout.flush()
    stop.set()


if __name__ == "__main__":
    main()
