"""What the parts of a collector are told when they start; where things listen by default."""

import socket
from collections.abc import Mapping
from typing import Final

import msgspec

from shards.adapters.interface import Evidence
from shards.protocol.channels import DEFAULT_CHANNELS
from shards.protocol.settings import (
    Count,
    Endpoints,
    LogFormat,
    Market,
    Positive,
    PositiveOrZero,
    SourceName,
)

DEFAULT_PUBLISH: Final = "tcp://127.0.0.1:5590"
"""The aggregator's XPUB, unless told otherwise."""
DEFAULT_WEB: Final = "127.0.0.1:5599"
"""Where the web page is, unless told otherwise."""
AWAY_S: Final = 30.0
"""An aggregator that has been away for so long will not be back by itself."""

BUDGET: Final = "budget"
"""The token buckets' folder within the runtime folder (shards/net/token_bucket.py)."""


def requests_endpoint(publish: str) -> str:
    """
    Name the endpoint for requests that belongs to a publish endpoint.

    For tcp it is the port after it, for ipc the path with ``.requests`` behind it.

    Raises:
        ValueError: If the endpoint is neither, or has no port that another could follow.

    """
    scheme, separator, address = publish.partition("://")
    if separator and address and scheme == "ipc":
        return f"{publish}.requests"
    host, colon, port = address.rpartition(":")
    if scheme != "tcp" or not colon or not host or not port.isdecimal():
        raise ValueError(f"{publish!r} is neither tcp://HOST:PORT nor ipc://PATH")
    if not 0 < int(port) < 65535:
        raise ValueError(f"{publish!r}: the port must be 1 to 65534, requests use the next one")
    return f"tcp://{host}:{int(port) + 1}"


def connectable(publish: str) -> str:
    """Name the endpoint to connect to where one listens at a publish endpoint, perhaps a wildcard."""
    host, colon, port = publish.removeprefix("tcp://").rpartition(":")
    if not publish.startswith("tcp://") or not colon:
        return publish
    if host in ("0.0.0.0", "*"):
        return f"tcp://127.0.0.1:{port}"
    return f"tcp://[::1]:{port}" if host == "[::]" else publish


def reachable(publish: str) -> str:
    """Name a publish endpoint for other machines, where one listens at a wildcard here."""
    port = publish.rpartition(":")[2]
    return publish if connectable(publish) == publish else f"tcp://{socket.gethostname()}:{port}"


class Steering(msgspec.Struct, kw_only=True):
    """What the coordinator tells the aggregator each time: where the markets belong."""

    revision: int
    """Of the assignment; grows."""
    markets: list[Market] | None = None
    """All of them; left out where the aggregator has this revision already."""
    assignment: dict[str, int] = {}
    """Beside the markets: the shard of each; one without a shard is not collected."""
    every_market: bool
    """Whether these are all the markets of the network: then trades can be proved whole."""
    listed_through: int
    """The head of the chain when it was last asked for its markets."""
    answers: dict[str, dict[str, str]] = {}
    """How far orders have got, by token."""


class AccessLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What readers may use up; docs/security.md says what happens at each bound."""

    max_connections: Count = 1_000
    """Of all readers together, frames and requests counted apart."""
    handshake_s: Positive = 5.0
    """A connection that is not through its handshake by then is closed."""
    silent_s: Positive = 30.0
    """With keys, a connection that has asked for nothing by then is closed."""
    replays_per_s: Positive = 500.0
    """Replays of one key; without keys, of one connection."""
    replay_burst: Count = 5_000
    """Replays that may come at once after a rest: one for each topic of a reader that joins."""
    queued_bytes: Count = 64 << 20
    """A reader that has taken nothing while so much was sent to it is closed."""


class AccessConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Who is let in at the endpoints of a publisher."""

    keys: str = ""
    """Its key file; empty: whoever reaches it reads, and nothing is encrypted."""
    authorized: str = ""
    """The file of authorized keys."""
    insecure: tuple[str, ...] = ()
    """Addresses that other machines reach and that ask for nothing, as they were given."""
    limits: AccessLimits = AccessLimits()


class TlsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How HTTP is served: plain, or with a certificate; to all, or for tokens."""

    certificate: str = ""
    key: str = ""
    authorized: str = ""
    """The file of authorized keys, whose tokens are asked for; empty: nothing is."""


class AggregatorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the aggregator's process needs to know."""

    epoch: int
    """Another one with every start, and greater; subscribers see it as the publisher epoch."""
    publish: tuple[str, ...]
    """XPUB endpoints; requests are answered at `requests_endpoint` of each."""
    pull: str
    """Where the shards push, ipc."""
    link: str
    """Where the shards report and the coordinator says what runs, ipc."""
    admin: str = ""
    """Where admin commands are taken, ipc; empty: nowhere."""
    admin_remote: str = ""
    """Where they are taken from keys with the role operate, tcp; empty: nowhere."""
    own: str = ""
    """Where our own processes read frames, ipc, without keys; empty: where all do."""
    access: AccessConfig = AccessConfig()
    """Who is let in."""
    folder: str
    """The collector's own temporary folder: sockets, token buckets."""
    state: str = ""
    """The folder of the ledger and the journal, which outlive us; empty: the temporary one."""
    begins: bool = False
    """The run begins with this aggregator: what is saved is of a run before."""
    markets: tuple[Market, ...]
    endpoints: Endpoints
    """Of the network, for those who ask."""
    assignment: dict[str, int] = {}
    """The shard of each market, by market id; without any it is the first that reports it."""
    revision: int = 0
    """Of the assignment."""
    resume_within: int = 5_000
    """Blocks after which a market that was removed and comes back begins anew."""
    every_market: bool
    """Whether these are all the markets of the network: then trades can be proved whole."""
    channels: tuple[str, ...] = DEFAULT_CHANNELS
    """What is collected."""
    web: str = ""
    """Where the web page is, for those who ask; empty without one."""
    assessed: Mapping[str, Evidence] = {}
    """How active the markets were before they were collected, by market id."""
    source: SourceName = "chain-ws"
    """What the shards read; the indexer tells no blocks, so there are none to account for."""
    publish_hwm: int = 20_000
    """Frames ZeroMQ queues for one slow subscriber before it loses some."""
    log_level: str = "INFO"
    log_format: LogFormat = "text"


class ServingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the HTTP server's process needs to know."""

    http: str
    """HOST:PORT where it listens."""
    requests: str
    """Where the aggregator answers, ipc."""
    publish: str
    """Where it publishes, for views that subscribe."""
    ready_coverage: float = 0.99
    """From which coverage on ``/readyz`` says yes."""
    metrics_markets: int = 300
    """How many markets have metrics of their own: each is a handful of series."""
    tls: TlsConfig = TlsConfig()
    log_level: str = "INFO"
    log_format: LogFormat = "text"


class Supervision(msgspec.Struct, frozen=True):
    """How patient the supervisor is."""

    start_within_s: Positive = 30.0
    """A child that never beat is given so long."""
    stall_after_s: Positive = 10.0
    abort_grace_s: PositiveOrZero = 2.0
    """From SIGABRT to SIGKILL."""
    restart_base_s: PositiveOrZero = 0.1
    restart_cap_s: Positive = 5.0
    crash_window_s: Positive = 60.0
    crash_loop: Count = 6
    """Starts within the window beyond which restarts are slow."""
    crash_loop_wait_s: PositiveOrZero = 30.0
    retire_within_s: Positive = 10.0
    """A shard that is not needed any more is given so long to hand over its last frames."""
    listing_s: Positive = 15.0
    """How often the chain is asked for its markets."""
    rebalance: bool = True
    """Whether a shard that does too much gives markets to another by itself."""
    cpu_budget_percent: Positive = 85.0
    """Of one core; above it for `over_budget_s`, a shard does too much."""
    lag_budget_s: Positive = 0.25
    """The same for the lateness of its event loop."""
    over_budget_s: PositiveOrZero = 30.0
    rebalance_rest_s: PositiveOrZero = 120.0
    """After a rebalance nothing moves by itself for so long."""
