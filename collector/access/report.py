"""The summary's part about access. Pure."""

import msgspec


class AccessReport(msgspec.Struct, frozen=True, kw_only=True):
    """The summary's part about access (docs/operations.md)."""

    keys: bool = False
    """Whether readers need a key."""
    insecure: list[str] = []
    """Addresses open to all."""
    error: str | None = None
    """Why the newest authorized keys are not in force."""
    connections: int = 0
    by_key: dict[str, int] = {}
    let_in: int = 0
    """Connections, since the start."""
    refused: dict[str, int] = {}
    """Refused connections, by reason."""
    closed: dict[str, int] = {}
    """Connections that we closed, by reason."""
    requests_refused: dict[str, int] = {}
    """Refused requests, by reason."""
