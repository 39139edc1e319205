"""The parent process, which supervises this one: how to see that it has ended."""

import multiprocessing
import select

_lifeline: int | None = None


def is_at(lifeline: int) -> None:
    """Remember a file descriptor that becomes readable when the parent ends."""
    global _lifeline
    _lifeline = lifeline


def sentinel() -> int | None:
    """Return a descriptor that becomes readable when the parent ends; None without a supervisor."""
    if _lifeline is not None:
        return _lifeline
    parent = multiprocessing.parent_process()
    return parent.sentinel if parent is not None else None


def is_gone() -> bool:
    """Return whether there was a parent that has ended."""
    watched = sentinel()
    if watched is None:
        return False
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    return bool(poll.poll(0))
