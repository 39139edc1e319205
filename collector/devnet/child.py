"""A child process that cannot outlive its parent."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# Runs in the child, then becomes the program (same pid). A `preexec_fn` would do it too, but
# forks with the parent's threads, which gRPC cannot bear.
_LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):  # else it died before the call above
    os.execv(sys.argv[2], sys.argv[2:])
"""


class Child:
    """
    One program, which may be stopped and started again.

    On Linux the kernel kills it when the thread that started it ends, however that ends.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
    ) -> None:
        self.arguments = tuple(arguments)
        self._environment = environment
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program; its output is appended to the file, or is the parent's stderr."""
        launch = [sys.executable, "-ISc", _LAUNCH, str(os.getpid())]
        arguments = [*(launch if sys.platform == "linux" else []), *self.arguments]
        if self._output is None:
            self._spawn(arguments, sys.stderr.fileno())
        else:
            with self._output.open("ab") as output:
                self._spawn(arguments, output)

    def _spawn(self, arguments: Sequence[str], output: int | IO[bytes]) -> None:
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=self._environment,
        )

    @property
    def pid(self) -> int:
        """The process id; 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        """How it ended, negative for a signal; None while it runs or before it was started."""
        return self._process.poll() if self._process else None

    def stop(self, *, grace_s: float) -> None:
        """Ask it to end, and kill it if it does not within the grace; fine if it has ended."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __repr__(self) -> str:
        state = "running" if self.pid and self.exit_code is None else f"ended {self.exit_code}"
        return f"<Child {Path(self.arguments[0]).name}, pid {self.pid}, {state}>"
