"""The wording of gaps: what ``Gap.detail`` says, on the wire and in the archive."""

from typing import Final

FRAMES_DROPPED: Final = "frames were dropped"
COLLECTION_ENDED: Final = "collection ended"


def blocks_not_available(count: int) -> str:
    """Say how many blocks of a gap no source has."""
    return f"{count} blocks not available"


def lost_upstream(channel: str, reason: str) -> str:
    """Say which channel lost facts before they came here, and why."""
    return f"{channel}: {reason}"
