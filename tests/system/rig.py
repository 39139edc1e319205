"""Real processes for a soak: node, fault proxies, collector, verifier. All end with it."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from collector.devnet.info import DevnetInfo
from collector.settings.parts import requests_endpoint
from tests.proxy import FaultProxy
from tests.system.running import free_port_pair

_STOP_S = 20.0
_VERDICT_S = 300.0


class Rig:
    """
    One node behind two proxies, one collector that knows the proxies only, and a verifier that
    asks the node directly. Logs, configuration and capture stay in `folder`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        spot: int = 16,
        perp: int = 4,
        shards: int = 3,
        source: str = "chain-ws",
    ) -> None:
        self.folder = folder
        self._sizes = (spot, perp, shards)
        self._source = source
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        spot, perp, shards = self._sizes
        command = ("devnet", "--json", "--stop-with-stdin", "--spot", spot, "--perp", perp)
        self.devnet = stack.enter_context(self._process("devnet", *command))
        assert self.devnet.stdout is not None
        line = self.devnet.stdout.readline()
        assert line, (self.folder / "devnet.log").read_text()
        endpoints = msgspec.json.decode(line, type=DevnetInfo).endpoints
        self.ws, self.rpc = (
            stack.enter_context(FaultProxy("127.0.0.1", urlsplit(url).port or 0))
            for url in (endpoints.chain_ws, endpoints.rpc)
        )
        config = self._write_config(endpoints.chain_stream, endpoints.chain_grpc)
        self.publish = f"tcp://127.0.0.1:{free_port_pair()}"
        self.requests = requests_endpoint(self.publish)
        self.http = free_port_pair()
        start: tuple[object, ...] = (
            "start",
            "--config",
            config,
            "--shards",
            shards,
        )
        start += ("--source", self._source)
        self.collector = stack.enter_context(
            self._process("collector", *start, "--publish", self.publish, "--http", self.http)
        )
        self._node = ("--rpc", endpoints.rpc, "--grpc", endpoints.chain_grpc)
        self._verifying = stack

    def verify(self, *, duration_s: float, books_every: int) -> "subprocess.Popen[bytes]":
        """Start the verifier; the collector must be publishing."""
        arguments = ("--connect", self.publish, *self._node, "--duration", duration_s, "--json")
        more = ("--books-every", books_every, "--max-rps", 400)
        record = ("--record", self.folder / "frames.capture")
        return self._verifying.enter_context(
            self._process("verify", "verify", *arguments, *more, *record)
        )

    def verdict(self, verifier: "subprocess.Popen[bytes]") -> dict[str, Any]:
        """End the verifier's watching and wait for what it says."""
        verifier.send_signal(signal.SIGINT)
        stdout, _ = verifier.communicate(timeout=_VERDICT_S)
        assert stdout, (self.folder / "verify.log").read_text()
        found: dict[str, Any] = msgspec.json.decode(stdout)
        return found

    def _write_config(self, chain_stream: str, chain_grpc: str) -> Path:
        path = self.folder / "collector.toml"
        network = {
            "chain_ws": [f"ws://127.0.0.1:{self.ws.port}/injstream-ws"],
            "chain_stream": [chain_stream],
            "chain_grpc": [chain_grpc],
            "rpc": [f"http://127.0.0.1:{self.rpc.port}"],
        }
        path.write_bytes(msgspec.toml.encode({"network": network}))
        return path

    @contextlib.contextmanager
    def _process(self, name: str, *arguments: object) -> Any:
        """Run one of our commands in a group of its own; whatever happens, end the group."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "collector", *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if name != "collector" else log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                if name == "verify":
                    # Asked to stop, it would finish its check first.
                    process.kill()
                _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
