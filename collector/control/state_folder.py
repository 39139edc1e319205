"""
The state folder: what survives a collector's run.

::

    <state>/
      lock       locked as long as the collector using it, and its aggregator, live
      identity   the network that the state belongs to
      ledger     how far each market's blocks are accounted for, and its open gap
      journal    the recorded events
      epochs     the last epoch issued

A second collector is refused while the first one runs; the state of another network is never
resumed. If nothing can be written, a collector without --state runs without a state and logs a
warning.
"""

import contextlib
import fcntl
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.aggregator.state_saver import LOCK as AGGREGATOR_LOCK
from shards.protocol.errors import UNREADABLE, ConfigError
from shards.runtime.saved import SavedFile

log = logging.getLogger(__name__)

NONE: Final = "none"
"""The value of `--state` that keeps nothing."""
_ORPHANS_S: Final = 15.0
"""How long we wait for the aggregator of a killed coordinator to end."""


class Identity(msgspec.Struct, frozen=True):
    """What the state belongs to; the ledger of one network is meaningless for another."""

    network: str
    tells_blocks: bool
    """Whether heights count blocks; on indexer-grpc they do not."""


def default_folder(
    network: str, publish: str, environment: Mapping[str, str] = os.environ
) -> Path | None:
    """
    Return the default state folder on this platform; None if there is none.

    It is in systemd's ``StateDirectory=`` if that is set, else in the user's state folder: one
    subfolder per network and publish endpoint.
    """
    own = re.sub(r"[^A-Za-z0-9.]+", "-", f"{network}-{publish.replace('*', 'any')}").strip("-")
    if given := environment.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0]) / own
    if (state := environment.get("XDG_STATE_HOME")) and Path(state).is_absolute():
        return Path(state) / "collector" / own
    try:
        home = Path.home()
    except RuntimeError:
        return None
    at = "Library/Application Support" if sys.platform == "darwin" else ".local/state"
    return home / at / "collector" / own


@contextlib.contextmanager
def open_state(
    asked: str | None,
    network: str,
    publish: str,
    *,
    tells_blocks: bool,
    fallback: Path,
    is_lasting: bool = True,
) -> Iterator[Path]:
    """
    Lock the state folder for the duration of the block.

    Args:
        asked: The folder, or `NONE`; None for the default.
        network: The network's name, which is part of the default.
        publish: The first publish endpoint, likewise.
        tells_blocks: Whether the source sends blocks.
        fallback: The folder for state that lives only as long as this run.
        is_lasting: Whether this chain will exist after this run.

    Raises:
        ConfigError: If it is in use, of another network, or requested but not writable.

    """
    folder = Path(asked) if asked else default_folder(network, publish)
    if folder is None or asked == NONE:
        yield fallback
        return
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = stack.enter_context((folder / "lock").open("a+"))
            _lock(lock, folder, publish, is_default=not asked)
            _await_orphans(folder)
            _try_reading(folder)
            _identify(SavedFile(folder / "identity"), Identity(network, tells_blocks), folder)
        except OSError as error:
            sentence = f"cannot keep a state in {folder}: {error.strerror}"
            if asked:
                raise ConfigError(
                    f"--state: {sentence}; give a folder that can be written to, or '{NONE}'"
                ) from None
            log.warning("%s: the state ends with this run; give another with --state", sentence)
            yield fallback
            return
        if not is_lasting and (folder / "ledger").exists():
            SavedFile(folder / "ledger").set_aside("the chain that it is of is gone")
        log.info("the state is kept in %s", folder)
        yield folder


def _lock(lock: Any, folder: Path, publish: str, *, is_default: bool) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read(200).strip() or "another collector"
        if is_default:
            # The folder's name contains the endpoint, which is what the two share.
            raise ConfigError(
                f"endpoint {publish} is in use by {holder}: "
                "stop that one, or give another with --publish"
            ) from None
        raise ConfigError(
            f"the state in {folder} is in use by {holder}: "
            "stop that one, or give another folder with --state"
        ) from None
    with contextlib.suppress(OSError):
        # Best effort: a full disk must not prevent collecting.
        lock.truncate(0)
        lock.write(f"the collector with process id {os.getpid()}, publishing on {publish}\n")
        lock.flush()


def _await_orphans(folder: Path) -> None:
    """Wait for the aggregator of a killed coordinator, which saves once more at its end."""
    deadline = time.monotonic() + _ORPHANS_S
    with (folder / AGGREGATOR_LOCK).open("a") as lock:
        waits = False
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waits:
                    log.info("waiting for the processes of a former collector to end")
                waits = True
                time.sleep(0.1)
            else:
                return
    raise ConfigError(
        f"the state in {folder} is still in use by the aggregator of a former collector: "
        "end that process, or give another folder with --state"
    )


def _try_reading(folder: Path) -> None:
    """Raise OSError if a ledger is here that cannot be read: it would be replaced by a new one."""
    with contextlib.suppress(FileNotFoundError), (folder / "ledger").open("rb"):
        pass


def _identify(file: SavedFile, ours: Identity, folder: Path) -> None:
    payload = file.load()
    try:
        found = None if payload is None else msgspec.msgpack.decode(payload, type=Identity)
    except UNREADABLE as error:
        file.set_aside(str(error))
        found = None
    if found is not None and found.network != ours.network:
        raise ConfigError(
            f"the state in {folder} is of the network {found.network}, not of {ours.network}: "
            "give another folder with --state, or remove that one"
        )
    if found is not None and found.tells_blocks != ours.tells_blocks:
        SavedFile(folder / "ledger").set_aside("its heights are those of another kind of source")
    with contextlib.suppress(OSError):
        file.save(msgspec.msgpack.encode(ours))
