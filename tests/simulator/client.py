"""A simulator in a process of its own, for tests and benches: start it, ask it, break it."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from shards.protocol.events import Block, Snapshot
from tests.simulator import faults

_ROOT: Final = Path(__file__).parents[2]


class Simulator:
    """A running ``python -m tests.simulator``; its attributes are a `Devnet`'s."""

    def __init__(self, process: "subprocess.Popen[bytes]", info: dict[str, Any]) -> None:
        self.process = process
        self.info = info
        self.endpoints: dict[str, str] = info["endpoints"]
        self.ws: str = info["endpoints"]["chain_ws"]
        self.stream: str = info["endpoints"]["chain_stream"]
        self.grpc: str = info["endpoints"]["chain_grpc"]
        self.indexer: str = info["endpoints"]["indexer"]
        self.rpc: str = info["endpoints"]["rpc"]
        self.markets: list[dict[str, Any]] = info["markets"]

    def inject(self, fault: faults.Fault) -> int:
        """Put a fault in force; return the height of that moment."""
        return int(self._command(msgspec.json.encode(fault)))

    def heal(self) -> None:
        """End all faults."""
        self._ask("heal")

    def head(self) -> int:
        """Return the newest height."""
        return int(self._ask("head"))

    def await_height(self, height: int, *, within_s: float = 30.0) -> None:
        """Wait until a block was made."""
        deadline = time.monotonic() + within_s
        while self.head() < height:
            if time.monotonic() > deadline:
                raise TimeoutError(f"height {height} not within {within_s} s")
            time.sleep(0.02)

    def block(self, height: int) -> Block:
        """Return the truth of a block."""
        return msgspec.convert(self._ask("block", height=height), Block)

    def book(self, market: str, height: int = 0) -> Snapshot:
        """Return the true book after a block, or now."""
        return msgspec.convert(self._ask("book", market=market, height=height), Snapshot)

    def pause(self, market: str) -> None:
        """Pause a market: its status changes and nothing happens in it any more."""
        self._ask("pause", market=market)

    def resume(self, market: str) -> None:
        """Let a paused market go on."""
        self._ask("resume", market=market)

    def delist(self, market: str) -> None:
        """Demolish a market: it is listed no more."""
        self._ask("delist", market=market)

    def list_market(self, ticker: str | None = None) -> dict[str, Any]:
        """Launch one more market, perhaps of a name of one's own, and describe it."""
        return dict(self._ask("list", ticker=ticker))

    def count_again(self, market: str) -> None:
        """Let a book's sequence begin again, low, while heights go on."""
        self._ask("count again", market=market)

    def begin_again(self, seed: int, *, away_s: float = 0.0, first: int = 1) -> None:
        """Cut everybody, and come back on the same ports as another chain, from a height on."""
        self._ask("begin again", seed=seed, away_s=away_s, first=first)

    def stats(self) -> dict[str, int]:
        """Return what the servers counted."""
        return dict(self._ask("stats"))

    def asked(self) -> dict[int, int]:
        """Return how often the results of each block were asked for, by height."""
        return {int(height): times for height, times in self._ask("asked").items()}

    def protocol_of(self, source: str) -> faults.Protocol:
        """Name the server that a source of the collector reads."""
        protocols: dict[str, faults.Protocol] = {
            "chain-ws": "ws",
            "chain-grpc": "stream",
            "indexer-grpc": "indexer",
        }
        return protocols[source]

    def config(self, folder: Path, *, extra: str = "") -> Path:
        """Write a collector's configuration file that points here."""
        path = folder / "collector.toml"
        path.write_text(
            f'[network]\nchain_ws = ["{self.ws}"]\nchain_stream = ["{self.stream}"]\n'
            f'chain_grpc = ["{self.grpc}"]\n'
            f'rpc = ["{self.rpc}"]\n{extra}'
        )
        return path

    def _ask(self, ask: str, **fields: Any) -> Any:
        return self._command(json.dumps({"ask": ask} | fields).encode())

    def _command(self, line: bytes) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or b'{"error": "it has ended"}')
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["ok"]


@contextlib.contextmanager
def simulator(*options: str) -> Iterator[Simulator]:
    """Run a simulator for the length of the block: ``simulator("--markets", "300")``."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.simulator", "--json", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd=_ROOT,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"the simulator ended with {process.wait()}"
            yield Simulator(process, json.loads(line))
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
