"""The settings of a collector's processes, and the default addresses."""

import socket
from collections.abc import Mapping
from typing import Final

import msgspec

from shards.adapters.interface import Evidence
from shards.protocol.channels import DEFAULT_CHANNELS
from shards.protocol.settings import (
    Count,
    CountOrZero,
    Endpoints,
    LogFormat,
    Market,
    Positive,
    PositiveOrZero,
    Priority,
    SourceName,
)

DEFAULT_PUBLISH: Final = "tcp://127.0.0.1:5590"
"""Default endpoint of the aggregator's XPUB."""
DEFAULT_WEB: Final = "127.0.0.1:5599"
"""Default address of the web page."""
AWAY_S: Final = 30.0
"""An aggregator that has been away for this long will not recover by itself."""

BUDGET: Final = "budget"
"""The token buckets' folder, in the runtime folder (shards/net/token_bucket.py)."""


def requests_endpoint(publish: str) -> str:
    """
    Return the requests endpoint that belongs to a publish endpoint.

    For tcp it is the next port, for ipc the path plus ``.requests``.

    Raises:
        ValueError: If the endpoint is neither, or its port has no successor.

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


def asked_at(publish: str) -> str:
    """Name a publish endpoint in a sentence about its requests: as it was typed, and where they go."""
    requests = requests_endpoint(publish)
    is_tcp = requests.startswith("tcp://")
    where = f"port {requests.rpartition(':')[2]}" if is_tcp else requests.removeprefix("ipc://")
    return f"{publish} (requests go to {where})"


def connectable(publish: str) -> str:
    """Return the endpoint to connect to for a publish endpoint, which may be a wildcard."""
    host, colon, port = publish.removeprefix("tcp://").rpartition(":")
    if not publish.startswith("tcp://") or not colon:
        return publish
    if host in ("0.0.0.0", "*"):
        return f"tcp://127.0.0.1:{port}"
    return f"tcp://[::1]:{port}" if host == "[::]" else publish


def reachable(publish: str) -> str:
    """Return a publish endpoint as other machines reach it, if it is a wildcard."""
    port = publish.rpartition(":")[2]
    return publish if connectable(publish) == publish else f"tcp://{socket.gethostname()}:{port}"


class Steering(msgspec.Struct, kw_only=True):
    """The coordinator's directions to the aggregator: the assignment of markets."""

    revision: int
    """Revision of the assignment; grows."""
    markets: list[Market] | None = None
    """All markets; None if the aggregator already has this revision."""
    assignment: dict[str, int] = {}
    """With the markets: the shard of each; a market without a shard is not collected."""
    every_market: bool
    """Whether these are all markets of the network, so that trades can be proved complete."""
    listed_through: int
    """The head of the chain at the last listing."""
    answers: dict[str, dict[str, str]] = {}
    """Progress of admin commands, by token."""


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
    failures_per_s: Positive = 20.0
    """With keys, handshakes from one address that fail, over a longer time: more shut it out."""
    all_failures_per_s: Positive = 100.0
    """With keys, those of all addresses; more shut out every address that never had a key."""
    queued_bytes: Count = 64 << 20
    """A reader that has taken nothing while so much was sent to it is closed."""


class AccessConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Access control of a publisher's endpoints."""

    keys: str = ""
    """Its key file; empty: no encryption, and anyone who reaches it can read."""
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
    """All settings of the aggregator's process."""

    epoch: int
    """Different and higher with every start; subscribers see it as the publisher epoch."""
    publish: tuple[str, ...]
    """XPUB endpoints; requests are answered at `requests_endpoint` of each."""
    pull: str
    """Endpoint for the shards' frames, ipc."""
    link: str
    """Endpoint for the shards' reports and the coordinator, ipc."""
    admin: str = ""
    """Endpoint for admin commands, ipc; empty: none."""
    admin_remote: str = ""
    """Endpoint for admin commands with keys of the role operate, tcp; empty: none."""
    own: str = ""
    """Where our own processes read frames, ipc, without keys; empty: where all do."""
    access: AccessConfig = AccessConfig()
    """Access control."""
    folder: str
    """The collector's temporary folder: sockets, token buckets."""
    state: str = ""
    """Folder of the ledger and the journal, which survive the run; empty: the temporary folder."""
    begins: bool = False
    """This aggregator is the first of its run: a saved state is from another run."""
    markets: tuple[Market, ...]
    endpoints: Endpoints
    """The network's endpoints, for the summary."""
    assignment: dict[str, int] = {}
    """The shard of each market, by market id; empty: the first shard that reports it."""
    revision: int = 0
    """Revision of the assignment."""
    resume_within: int = 5_000
    """Blocks after which a market that was removed and comes back starts over."""
    every_market: bool
    """Whether these are all markets of the network, so that trades can be proved complete; with
    a part, all of that part."""
    part: str = ""
    """Our part of the network's markets, ``1/3``; empty: all."""
    channels: tuple[str, ...] = DEFAULT_CHANNELS
    """The collected channels."""
    web: str = ""
    """The web page's address, for the summary; empty without one."""
    assessed: Mapping[str, Evidence] = {}
    """How active the markets were before collection, by market id."""
    source: SourceName = "chain-ws"
    """The source; the indexer sends no blocks, so none are counted."""
    publish_hwm: int = 20_000
    """Frames that ZeroMQ queues per slow subscriber before it drops some."""
    realtime: int = 0
    """Its real-time priority; 0: scheduled like any other process."""
    spin: bool = False
    """Whether it polls for data instead of sleeping."""
    log_level: str = "INFO"
    log_format: LogFormat = "text"


class ServingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of the HTTP server's process."""

    http: str
    """HOST:PORT to listen on."""
    requests: str
    """The aggregator's requests endpoint, ipc."""
    publish: str
    """The publish endpoint, for views that subscribe."""
    ready_coverage: float = 0.99
    """Coverage from which ``/readyz`` is positive."""
    metrics_markets: int = 300
    """Number of markets with metrics of their own, a handful of series each."""
    tls: TlsConfig = TlsConfig()
    log_level: str = "INFO"
    log_format: LogFormat = "text"


class Cpus(msgspec.Struct, frozen=True):
    """The processors that each kind of process may use; empty: all that the collector may."""

    shards: tuple[CountOrZero, ...] = ()
    aggregator: tuple[CountOrZero, ...] = ()
    others: tuple[CountOrZero, ...] = ()
    """The coordinator, HTTP, page and recorder, and a devnet of our own."""


class ProcessSettings(msgspec.Struct, frozen=True):
    """How the kernel schedules the processes."""

    priority: Priority = "auto"
    """Of shards and aggregator; all others are scheduled normally."""
    spin: bool = False
    """Whether shards and aggregator poll for data instead of sleeping; each keeps a processor busy."""
    cpus: Cpus = Cpus()


class Supervision(msgspec.Struct, frozen=True):
    """Time limits of the supervisor."""

    start_within_s: Positive = 30.0
    """Time limit for a child's first heartbeat."""
    stall_after_s: Positive = 10.0
    abort_grace_s: PositiveOrZero = 2.0
    """Time from SIGABRT to SIGKILL."""
    restart_base_s: PositiveOrZero = 0.1
    restart_cap_s: Positive = 5.0
    crash_window_s: Positive = 60.0
    crash_loop: Count = 6
    """Starts within the window beyond which restarts are slow."""
    crash_loop_wait_s: PositiveOrZero = 30.0
    retire_within_s: Positive = 10.0
    """Time limit for a removed shard to hand over its last frames."""
    listing_s: Positive = 15.0
    """How often the chain's markets are listed."""
    rebalance: bool = True
    """Whether an overloaded shard gives markets to another automatically."""
    cpu_budget_percent: Positive = 85.0
    """Percent of one core; above it for `over_budget_s`, a shard is overloaded."""
    lag_budget_s: Positive = 0.25
    """The same for the lag of its event loop."""
    over_budget_s: PositiveOrZero = 30.0
    rebalance_rest_s: PositiveOrZero = 120.0
    """Pause after an automatic rebalance."""
