"""
Errors, sorted by what the caller must do next.

==================  =====================================================
error               what to do
==================  =====================================================
``ConfigError``     stop with exit code 3; a restart would not help
``SourceError``     reconnect to the source, with backoff
``FeedError``       resync one market; the others are not affected
``Fenced``          exit normally: a newer process has taken over
anything else       a bug: let the process die with its traceback
==================  =====================================================

The exit codes are in `shards/runtime/exit_codes.py`.
"""

from shards.protocol.text import without_secrets


class ConfigError(Exception):
    """The configuration cannot be run; the text is one sentence for the user."""


class OtherVersion(ConfigError, ValueError):
    """What another process sends is of a version that this release does not read."""


class SourceError(Exception):
    """A source failed: refused, cut off, timed out, or answered with an error."""

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
        """For display, without the secrets in its URL."""
        self.reason = reason
        self.status = status
        """Name of the gRPC status code; empty if it was not a gRPC call."""
        self.refused = refused
        """The host limits our requests (HTTP 429)."""
        self.unreachable = unreachable
        """No connection could be made: nothing listens there, or there is no route."""
        self.too_large = too_large
        """A message exceeded ``limits.message_bytes`` and was not downloaded."""


class Fenced(Exception):
    """A newer process has this shard's number."""


class FeedError(Exception):
    """One market's stream cannot continue without a resync."""

    def __init__(self, market_id: str, reason: str) -> None:
        super().__init__(f"{market_id or 'unknown market'}: {reason}")
        self.market_id = market_id
        self.reason = reason


class DecodeError(FeedError):
    """A payload violates the source's format; ``market_id`` is "" if unknown."""


class SequenceGap(FeedError):
    """A book update does not follow its predecessor."""

    def __init__(self, market_id: str, *, expected: int, found: int) -> None:
        again = ": the sequence restarted" if found < expected else ""
        super().__init__(market_id, f"book update {found} instead of {expected}{again}")
        self.expected = expected
        self.found = found


UNREADABLE = (ValueError, RecursionError)
"""
Everything a decoder raises on foreign bytes. `msgspec.DecodeError` and `UnicodeDecodeError`
(text that is not UTF-8) are ValueErrors; deep nesting raises RecursionError. Around foreign
bytes, catch this tuple and never one of its members.
"""
