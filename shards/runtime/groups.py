"""Errors out of exception groups."""

import contextlib
from collections.abc import Iterator


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions in a tree of exception groups."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


@contextlib.contextmanager
def alone(kind: type[BaseException]) -> Iterator[None]:
    """
    Raise an error of a kind by itself, if a task group raises it, and nothing else, in a group.

    Python 3.11.2 (Debian 12) puts what an ``except*`` raises into another group.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        if group.split(kind)[1] is not None:
            raise
        raise next(leaves(group)) from None
