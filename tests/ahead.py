"""
What takes minutes to make, mostly waiting for a mirror, is begun with the run: the containers' image.

The process that shares the tests out starts this module, which makes the image while the workers do
other things, owns it, and removes it at the end of the run. A run without workers makes it when it is needed.
"""

import atexit
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

_WANTS: Final = "tests/system/test_container.py::"
_TIMEOUT_S: Final = 400.0
_END_S: Final = 60.0
_begun: "list[subprocess.Popen[bytes]]" = []


def _word(run: str) -> Path:
    """Where the other process says what came of it."""
    return Path(tempfile.gettempdir()) / f"image-{run}.json"


def begin(run: str, tests: Iterable[str]) -> None:
    """Begin to make what these tests want; the name is the run's own."""
    if any(name.startswith(_WANTS) for name in tests):
        command = [sys.executable, "-m", __name__, str(_word(run))]
        root = Path(__file__).parents[1]
        _begun.append(subprocess.Popen(command, stdin=subprocess.PIPE, cwd=root))
        atexit.register(end, run)


def end(run: str) -> None:
    """Remove it, and wait for that."""
    while _begun:
        process = _begun.pop()
        assert process.stdin is not None
        process.stdin.close()
        if not _word(run).exists():
            # A run that ends early does not wait for an image that no test will use.
            process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            # The next run removes what is left.
            process.kill()
            process.wait()
        _word(run).unlink(missing_ok=True)


def image(run: str) -> dict[str, Any]:
    """Wait for the image; return where its storage is (`folder`), or why there is none (`error`)."""
    until = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < until:
        if _word(run).exists():
            found: dict[str, Any] = json.loads(_word(run).read_text())
            return found
        time.sleep(0.2)
    return {"error": f"no image within {_TIMEOUT_S:.0f} s"}


def main() -> None:
    """Make the image, say so in a file, and keep it until stdin ends."""
    # Heavier than what the scheduler of the tests should import.
    from tests.system.containers import made

    word = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    def say(**said: str) -> None:
        new = word.with_suffix(".new")
        new.write_text(json.dumps(said))
        new.replace(word)

    try:
        with made() as podman:
            say(folder=str(podman.folder))
            sys.stdin.read()
    except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        say(error=str(error))
        sys.stdin.read()


if __name__ == "__main__":
    main()
