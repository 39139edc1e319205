"""
A host's folder of a cluster.

::

    <folder>/
      lock          locked as long as the keeper lives
      ray.json      how Ray is started here (ray_node.py); absent if somebody else does that
      ray.token     the token without which Ray takes no orders
      gcs/          on the head: Ray's own state
      wanted.json   what the manager wants to run here; it stays in force while Ray is away
      report.json   what runs here
      leaving       there once the cluster is at its end
      cells/0/      the record and the log of each cell's process
      state/1-of-3/ a cell's state folder, with the map for readers

"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from collector.cluster.spec import Report, Wanted

DEFAULT_NAME: Final = "default"
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class HostFolder:
    """The paths of a host's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lock(self) -> Path:
        """Locked by the keeper."""
        return self.path / "lock"

    @property
    def ray(self) -> Path:
        """How Ray is started here."""
        return self.path / "ray.json"

    @property
    def token(self) -> Path:
        """Ray's token, if no other file is named."""
        return self.path / "ray.token"

    @property
    def wanted(self) -> Path:
        """What is to run here."""
        return self.path / "wanted.json"

    @property
    def leaving(self) -> Path:
        """There once the cluster is at its end."""
        return self.path / "leaving"

    @property
    def report(self) -> Path:
        """What runs here."""
        return self.path / "report.json"

    def cell(self, slot: int) -> Path:
        """Return the folder of a cell's process."""
        return self.path / "cells" / str(slot)

    def state(self, part: str) -> Path:
        """Return the state folder of a part."""
        return self.path / "state" / part.replace("/", "-of-")

    def forget(self) -> None:
        """Remove what says that this host belongs to a cluster."""
        for path in (self.wanted, self.ray, self.leaving):
            path.unlink(missing_ok=True)

    def read_wanted(self) -> Wanted | None:
        """Return what is to run here; None if nothing was ever wanted."""
        return read(self.wanted, Wanted)

    def read_report(self) -> Report:
        """Return what runs here."""
        return read(self.report, Report) or Report()


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the default folder: in the user's state folder."""
    state = environment.get("XDG_STATE_HOME", "")
    base = Path(state) if os.path.isabs(state) else Path.home() / ".local/state"
    return base / "collector" / "cluster"


def read(path: Path, kind: type[_Struct]) -> _Struct | None:
    """Return a file's content; None if there is no such file, or it is not readable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None
