"""The devnet of `collector start --network devnet`, run as a child process."""

import logging
import subprocess
import sys
from types import TracebackType
from typing import Self

import msgspec

from collector.control.signals import Interruptible
from collector.devnet.info import DevnetInfo
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Endpoints

log = logging.getLogger(__name__)

_STOP_S = 15.0


class EmbeddedDevnet:
    """
    A devnet for the duration of a ``with`` block.

    It ends with the pipe to its stdin, so it cannot outlive us, however we end.
    """

    def __init__(
        self,
        *,
        spot: int,
        perp: int,
        options: tuple[str, ...] = (),
        interruptible: Interruptible,
    ) -> None:
        """
        Args:
            spot: Its number of spot markets.
            perp: Its number of perpetual markets.
            options: More options of `collector devnet`.
            interruptible: A signal may interrupt the wait for the node, and nothing else here.

        """
        self._interruptible = interruptible
        self._command = [
            *(sys.executable, "-m", "collector", "devnet", "--json", "--stop-with-stdin"),
            *("--spot", str(spot), "--perp", str(perp), *options),
        ]
        self._process: subprocess.Popen[bytes]
        self.info: DevnetInfo

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A terminal's Ctrl-C is for us; the devnet stops after we have drained.
            start_new_session=True,
        )
        try:
            with self._interruptible():
                self.info = self._await_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def _await_ready(self) -> DevnetInfo:
        stdout = self._process.stdout
        line = stdout.readline() if stdout is not None else b""
        if not line:
            code = self._process.wait()
            raise ConfigError(f"the devnet did not start (exit code {code}); its message is above")
        return msgspec.json.decode(line, type=DevnetInfo)

    def endpoints(self) -> Endpoints:
        """Return where the node is reached."""
        found = self.info.endpoints
        return Endpoints(
            chain_ws=(found.chain_ws,),
            chain_stream=(found.chain_stream,),
            chain_grpc=(found.chain_grpc,),
            rpc=(found.rpc,),
        )

    def _stop(self) -> None:
        process = self._process
        # Closing its stdin asks it to stop; an additional signal would mean "at once".
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            log.error("the devnet does not end; killing it")
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
