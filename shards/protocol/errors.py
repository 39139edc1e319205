"""
Errors, sorted by what the caller must do next.

==================  =====================================================
error               what to do
==================  =====================================================
``ConfigError``     stop with exit code 3; a restart would not help
``SourceError``     reconnect to the source, with backoff
``FeedError``       resync one market; the others are not concerned
``Fenced``          end in peace: another process does this one's work
anything else       a bug: let the process die with its traceback
==================  =====================================================
"""

from shards.protocol.text import without_secrets

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_CONFIG = 3
EXIT_BELOW = 4
"""Ended below ``--min-coverage``, or ``collector verify`` found a difference."""


class ConfigError(Exception):
    """What was asked for cannot be run; the text is one sentence for the user."""


class SourceError(Exception):
    """A source failed: refused, cut, timed out, or answered with an error."""

    def __init__(
        self,
        endpoint: str,
        reason: str,
        *,
        status: str = "",
        refused: bool = False,
        unreachable: bool = False,
        too_large: bool = False,
    ) -> None:
        endpoint, reason = without_secrets(endpoint), without_secrets(reason)
        super().__init__(f"{endpoint}: {reason}")
        self.endpoint = endpoint
        """To be shown: without the secrets of its URL."""
        self.reason = reason
        self.status = status
        """The name of gRPC's status code, where it was a call."""
        self.refused = refused
        """The host is asked too often (HTTP 429)."""
        self.unreachable = unreachable
        """Nobody answered: nothing listens there, or no way leads there."""
        self.too_large = too_large
        """A message was larger than ``limits.message_bytes``; it was not downloaded."""


class Fenced(Exception):
    """A younger process has this shard's number."""


class FeedError(Exception):
    """One market's stream cannot be continued as it is."""

    def __init__(self, market_id: str, reason: str) -> None:
        super().__init__(f"{market_id or 'unknown market'}: {reason}")
        self.market_id = market_id
        self.reason = reason


class DecodeError(FeedError):
    """A payload is not what the source's format says; market "" where unknown."""


class SequenceGap(FeedError):
    """A book update does not follow the one before it."""

    def __init__(self, market_id: str, *, expected: int, found: int) -> None:
        again = ": the sequence began again" if found < expected else ""
        super().__init__(market_id, f"book update {found} where {expected} was due{again}")
        self.expected = expected
        self.found = found


UNREADABLE = (ValueError, RecursionError)
"""
All that a decoder raises for bytes that somebody else made: `msgspec.DecodeError` and
`UnicodeDecodeError` (text that is not UTF-8) are both a ValueError; nesting ends in a
RecursionError. Catch this tuple around foreign bytes, never one of its members.
"""
