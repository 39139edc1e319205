"""One devnet as the command sees it: start the keeper, pass on what comes, end with it."""

import importlib.util
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO

import msgspec

from collector.devnet.config import DevnetConfig
from collector.devnet.errors import DevnetError
from collector.devnet.info import DevnetInfo
from collector.devnet.lifeline import Lifeline
from collector.devnet.protocol import HALT, RESTART, Failed, HomeCreated, Ready, decode_reports
from collector.settings import installed

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ORDERS = {signal.SIGUSR1: RESTART, signal.SIGUSR2: HALT}
_END_WITHIN_S = 15.0


class Session:
    """
    Run a keeper until a stop signal, or until the `lifeline_pipe` ends.

    Each time the node is ready `announce` is called.
    """

    def __init__(
        self,
        config: DevnetConfig,
        announce: Callable[[DevnetInfo], None],
        *,
        lifeline_pipe: IO[str] | None = None,
    ) -> None:
        self._pipes = [lifeline_pipe.fileno()] if lifeline_pipe else []
        self._lifeline = Lifeline(signals=(*_STOPS, *_ORDERS), pipes=self._pipes)
        self._config = config
        self._announce = announce
        self._temporary_home: str | None = None
        self._unread = b""

    def run(self) -> None:
        """
        Return when stopped.

        Raises:
            DevnetError: If the devnet could not be started, or could not go on.

        """
        _need_extra()
        keeper = _start_keeper(self._config)
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        self._lifeline.watch(keeper.stdout.fileno())
        try:
            while self._go_on(keeper.stdin, keeper.stdout.fileno()):
                pass
        finally:
            self._end(keeper)

    def _go_on(self, orders: IO[bytes], reports: int) -> bool:
        for pipe, what in self._lifeline.wait():
            if what in _STOPS or (pipe in self._pipes and what == b""):
                return False
            if isinstance(what, int):
                orders.write(_ORDERS[signal.Signals(what)])
                orders.flush()
            elif pipe == reports:
                self._read(what)
        return True

    def _read(self, data: bytes) -> None:
        if not data:
            raise DevnetError("the keeper of the devnet died")
        reports, self._unread = decode_reports(self._unread + data)
        for report in reports:
            match report:
                case HomeCreated(home, temporary):
                    self._temporary_home = home if temporary else None
                case Ready(info):
                    self._announce(info)
                case Failed(reason):
                    raise DevnetError(reason)

    def _end(self, keeper: subprocess.Popen[bytes]) -> None:
        """Close the pipe and wait; a second stop signal does not wait."""
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        keeper.stdin.close()
        deadline = time.monotonic() + _END_WITHIN_S
        while keeper.poll() is None and time.monotonic() < deadline:
            if any(what in _STOPS for _, what in self._lifeline.wait(0.05)):
                break
        keeper.kill()
        keeper.wait()
        # It may have made its folder without our having read of it yet.
        for report in decode_reports(self._unread + keeper.stdout.read())[0]:
            if isinstance(report, HomeCreated) and report.temporary:
                self._temporary_home = report.home
        keeper.stdout.close()
        # Only there if the keeper was killed; its children died with it.
        if self._temporary_home:
            shutil.rmtree(self._temporary_home, ignore_errors=True)


def _start_keeper(config: DevnetConfig) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "collector.devnet.node_manager",
            msgspec.json.encode(config).decode(),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def _need_extra() -> None:
    missing = [
        name
        for name in ("injective_core", "ecdsa", "Crypto")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise DevnetError(
            f"{' and '.join(missing)} cannot be imported: 'collector devnet' needs the extra of "
            f"that name (Linux, or macOS on arm64): {installed.advice('devnet')}"
        )
