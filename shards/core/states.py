"""
The states of a feed and their transitions: the whole table, as data.

::

    stimulus        pending   syncing   live      stale     failed
    --------------  --------  --------  --------  --------  --------
    ACCEPTED        syncing   .         .         .         syncing
    ACCEPTED_AGAIN  stale     .         .         .         stale
    SERVED          syncing   .         .         syncing   syncing
    COMPLETE        .         live      .         .         .
    INCOMPLETE      .         .         syncing   .         .
    LOST            .         stale     stale     .         .
    REFUSED         failed    failed    failed    failed    failed

A dot leaves the state unchanged. Coverage counts ``live``; a quiet market is live.
``inactive`` is not a state of a feed: the chain does not list the market as active.
"""

import enum
from typing import Final


class State(enum.Enum):
    """The state of a feed; the values appear in reports and in the status."""

    PENDING = "pending"
    """Not subscribed yet."""
    SYNCING = "syncing"
    """The source serves it, but something is outstanding: lost blocks, the book, a comparison."""
    LIVE = "live"
    STALE = "stale"
    """It was served; now it is not, or that cannot be verified."""
    FAILED = "failed"
    """The source refused the subscription."""
    INACTIVE = "inactive"


class Stimulus(enum.Enum):
    """What can happen to a feed."""

    ACCEPTED = enum.auto()
    """The source accepted the first subscription."""
    ACCEPTED_AGAIN = enum.auto()
    """It accepted a later one: only the next block shows what was missed in between."""
    SERVED = enum.auto()
    """The source proved that it serves the market."""
    COMPLETE = enum.auto()
    """Nothing is outstanding any more."""
    INCOMPLETE = enum.auto()
    """Something was lost and will be replayed."""
    LOST = enum.auto()
    """The subscription is cut or silent, or its health cannot be verified."""
    REFUSED = enum.auto()
    """The source refused or ended the subscription."""


_P, _S, _L = State.PENDING, State.SYNCING, State.LIVE
_T, _F = State.STALE, State.FAILED

TABLE: Final[dict[Stimulus, dict[State, State]]] = {
    Stimulus.ACCEPTED: {_P: _S, _F: _S},
    Stimulus.ACCEPTED_AGAIN: {_P: _T, _F: _T},
    Stimulus.SERVED: {_P: _S, _T: _S, _F: _S},
    Stimulus.COMPLETE: {_S: _L},
    Stimulus.INCOMPLETE: {_L: _S},
    Stimulus.LOST: {_S: _T, _L: _T},
    Stimulus.REFUSED: dict.fromkeys((_P, _S, _L, _T, _F), _F),
}
