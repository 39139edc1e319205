"""The messages between command and keeper: one JSON line each, over two pipes."""

import msgspec

from collector.devnet.info import DevnetInfo

RESTART = b"restart\n"
HALT = b"halt\n"
"""Lines to the keeper; the second halts the chain, or resumes a halted one. The end of that pipe
means: stop."""


class HomeCreated(msgspec.Struct, frozen=True, tag=True):
    """Where the chain lives, said before anything is written there."""

    home: str
    temporary: bool


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The node answers, said after the boot and after each restart of the node."""

    info: DevnetInfo


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The keeper gave up; the last thing it says."""

    reason: str


Report = HomeCreated | Ready | Failed


def decode_reports(data: bytes) -> tuple[list[Report], bytes]:
    """Read the whole lines of the data; give the unfinished rest back."""
    *lines, rest = data.split(b"\n")
    return [msgspec.json.decode(line, type=Report) for line in lines], rest
