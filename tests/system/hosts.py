"""
Hosts on one machine: network, process and mount namespaces on a bridge.

Each has an address of its own, its own process ids, and its own content of `HERE`. A host may be
killed with all that runs there, started again with its files, and cut off from the others. Needs
root, and a network namespace of our own around it all (`isolated`), so that no name is taken.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from tests.system.running import eventually

HERE: Final = "/mnt"
"""Where each host sees its own files."""
NET: Final = "10.99.0"
_BRIDGE: Final = "bridge"
# The first process of a host takes in those whose parents are gone.
_FIRST: Final = """
import os, time
while True:
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        time.sleep(0.05)
"""


def isolated(command: Sequence[str]) -> list[str]:
    """Return the command that runs another one in a network namespace of its own."""
    return ["unshare", "--net", "--", *command]


def prepare() -> None:
    """Make the bridge, and our own address beside the hosts: readers are outside."""
    for line in (
        "link set lo up",
        f"link add {_BRIDGE} type bridge",
        f"addr add {NET}.254/24 dev {_BRIDGE}",
        f"link set {_BRIDGE} up",
    ):
        _ip(line)


class Host:
    """One host."""

    def __init__(self, number: int, files: Path, environment: Mapping[str, str]) -> None:
        self.number = number
        self.address = f"{NET}.{number}"
        self.files = files
        """What the host sees at `HERE`."""
        (files / "tmp").mkdir(parents=True, exist_ok=True)
        self._environment = environment
        self._outer: subprocess.Popen[bytes] | None = None
        self._first = 0
        self.is_cut = False

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return self._outer is not None

    def boot(self) -> None:
        """Start it; nothing runs there yet."""
        # Shared memory is the host's own: its process ids are those of other hosts as well, and
        # names in there are made of them.
        shared = "mount -t tmpfs shared /dev/shm"
        script = f'mount --bind "$1" {HERE} && {shared} && exec "$2" -c "$3"'
        self._outer = subprocess.Popen(
            [
                *("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc"),
                *("--kill-child", "sh", "-c", script, "sh"),
                *(str(self.files), sys.executable, _FIRST),
            ],
            start_new_session=True,
        )
        self._first = eventually(self._found, within_s=30, what="the host's first process")
        _ip(f"link add v{self.number} type veth peer name eth0 netns {self._first}")
        _ip(f"link set v{self.number} master {_BRIDGE} up")
        self.run(["ip", "link", "set", "lo", "up"])
        self.run(["ip", "addr", "add", f"{self.address}/24", "dev", "eth0"])
        self.run(["ip", "link", "set", "eth0", "up"])
        self.is_cut = False

    def _found(self) -> int:
        """Return the id of the host's first process, once it is what it is to be."""
        assert self._outer is not None
        children = psutil.Process(self._outer.pid).children()
        ready = [one for one in children if _FIRST in one.cmdline()]
        return ready[0].pid if ready else 0

    def run(self, command: Sequence[str], within_s: float = 60.0) -> str:
        """Run a command there to its end; return what it printed."""
        done = self.tried(command, within_s)
        if done.returncode:
            raise AssertionError(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def tried(self, command: Sequence[str], within_s: float) -> "subprocess.CompletedProcess[str]":
        """Run a command there to its end, whatever its exit code."""
        return subprocess.run(
            self._inside(command),
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
            env=self._env(),
        )

    def started(self, word: str) -> float:
        """Return when the newest process there with this word in its command line started, or 0."""
        found = [0.0]
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if word in " ".join(process.cmdline()):
                    found.append(process.create_time())
        return max(found)

    def start(self, command: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
        """Start a command there; it ends with the host."""
        with log.open("ab") as said:
            return subprocess.Popen(
                self._inside(command), stdout=said, stderr=said, env=self._env()
            )

    def _inside(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", "-t", str(self._first), "-n", "-p", "-m", "--", *command]

    def _env(self) -> dict[str, str]:
        return os.environ | {"TMPDIR": f"{HERE}/tmp"} | dict(self._environment)

    def processes(self) -> list[psutil.Process]:
        """Return all that runs there, besides its first process."""
        if not self._first:
            return []
        ours = os.readlink(f"/proc/{self._first}/ns/pid")
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if (
                    process.pid != self._first
                    and os.readlink(f"/proc/{process.pid}/ns/pid") == ours
                ):
                    found.append(process)
        return found

    def kill(self, words: Sequence[str]) -> int:
        """Kill the processes whose command line has one of the words; return how many."""
        found = 0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if any(word in line for word in words):
                    process.send_signal(signal.SIGKILL)
                    found += 1
        return found

    def crash(self) -> None:
        """Kill everything there at once."""
        if self._outer is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._first, signal.SIGKILL)
            self._outer.wait(90)
            self._outer = None
            self._first = 0
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip(f"link del v{self.number}")

    def cut(self) -> None:
        """Cut it off from everything."""
        _ip(f"link set v{self.number} down")
        self.is_cut = True

    def heal(self) -> None:
        """Connect it again."""
        _ip(f"link set v{self.number} up")
        self.is_cut = False


def _ip(line: str) -> None:
    subprocess.run(["ip", *line.split()], check=True, capture_output=True)
