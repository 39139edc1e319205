"""The process that started this one, and supervises it: where its end is seen."""

import multiprocessing
import select

_lifeline: int | None = None


def is_at(lifeline: int) -> None:
    """Remember a file descriptor that becomes readable when the parent ends."""
    global _lifeline
    _lifeline = lifeline


def sentinel() -> int | None:
    """Return what becomes readable when the parent ends; None where nothing supervises us."""
    if _lifeline is not None:
        return _lifeline
    parent = multiprocessing.parent_process()
    return parent.sentinel if parent is not None else None


def is_gone() -> bool:
    """Say whether there was a parent, and it has ended."""
    watched = sentinel()
    if watched is None:
        return False
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    return bool(poll.poll(0))
