"""Readers after a fork: ZeroMQ's sockets work in the process that opened them alone, and hang in others."""

import os
import weakref
from typing import Final, Protocol

FORKED: Final = "this Subscriber was opened before a fork, in another process: open one here"


class Reader(Protocol):
    """What has sockets."""

    def leave_to_parent(self) -> None:
        """Forget the sockets, in the child."""


_readers: "weakref.WeakSet[Reader]" = weakref.WeakSet()


def remember(reader: Reader) -> None:
    """Have a reader, which has opened its sockets, forget them in every process that is forked."""
    _readers.add(reader)


def _forked() -> None:
    for reader in list(_readers):
        reader.leave_to_parent()


os.register_at_fork(after_in_child=_forked)
