"""
The fault menu: what can go wrong between an exchange and its client, one Struct each.

Faults of a *delivery* change what single subscriptions hear; they begin with the block
``after`` blocks from now and concern one market where ``market`` (id or ticker) is given.
The others concern a whole server. ``protocol`` narrows a fault to ``ws``, ``stream``
(gRPC chain stream) or ``indexer``; servers of queries are ``grpc`` and ``rpc``.

In JSON, as the control channel takes them: ``{"fault": "mute", "market": "…", "after": 3}``.
"""

from typing import Literal, TypeAlias

import msgspec

Protocol = Literal["ws", "stream", "indexer", "grpc", "rpc"]


class Base(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="fault", forbid_unknown_fields=True
):
    """What all faults share."""

    protocol: Protocol | Literal[""] = ""
    """Only this server; all that it makes sense for if empty."""


class Delivery(Base, frozen=True, kw_only=True):
    """A fault in what subscriptions hear."""

    after: int = 0
    """Blocks from now until it begins; 0 is the very next block."""
    blocks: int = 1
    """How many blocks it lasts; 0 for ever."""
    market: str = ""
    """Only subscriptions that can hear of this market; all if empty."""


class Mute(Delivery, frozen=True, kw_only=True, tag="mute"):
    """
    Subscriptions that exist when it begins hear nothing more, ever.

    The connection stays open and answers pings: the node's silent eviction of a slow
    reader. A new subscription works, unless `sticky`.
    """

    blocks: int = 0
    sticky: bool = False


class Gap(Delivery, frozen=True, kw_only=True, tag="gap"):
    """
    Something is left out, and nothing says so.

    ``blocks``: whole messages, so the height jumps. ``updates`` or ``trades``: the block
    arrives without them; the book's sequence jumps at its next update, missing trades
    show only as holes among the trade ids of all markets.
    """

    what: Literal["blocks", "updates", "trades"] = "blocks"


class HeightJump(Delivery, frozen=True, kw_only=True, tag="height-jump"):
    """Every subscription of every connection loses the same blocks, on a connection that
    never blinks: a proxy has lost its upstream and resumed. The market does not matter."""


class Duplicate(Delivery, frozen=True, kw_only=True, tag="duplicate"):
    """Each block is said twice, equal to the byte."""


class Reorder(Delivery, frozen=True, kw_only=True, tag="reorder"):
    """A block comes after its successor: 1, 2, 4, 3, 5; with `blocks` 3 twice: 2, 1, 4, 3."""


class Stall(Delivery, frozen=True, kw_only=True, tag="stall"):
    """Nothing for `blocks` blocks, then all of them at once: late, complete, in order."""


class Late(Delivery, frozen=True, kw_only=True, tag="late"):
    """Each block comes when `behind` more were made: the stream goes on, steadily late."""

    blocks: int = 0
    behind: int = 6


class Garbage(Delivery, frozen=True, kw_only=True, tag="garbage"):
    """
    A message that cannot be decoded stands in for the block.

    ``text`` is no JSON, ``truncated`` is half a message, ``binary`` is invalid UTF-8 in a
    text frame, ``types`` is JSON with the wrong types. On gRPC all of them are bytes that
    are no protobuf: grpc's blocking stubs end the call with INTERNAL, but those of grpc.aio
    log it, hand on None and continue.
    """

    what: Literal["text", "truncated", "binary", "types"] = "text"


class Oversized(Delivery, frozen=True, kw_only=True, tag="oversized"):
    """The block comes padded to `size` bytes (valid, only too long for a reader's limit)."""

    size: int = 65 << 20


class ClockSkew(Delivery, frozen=True, kw_only=True, tag="clock-skew"):
    """Block times are off by so many ms; order and content are right."""

    blocks: int = 0
    ms: int = -30_000


class Lie(Delivery, frozen=True, kw_only=True, tag="lie"):
    """What the stream says of trades or books is false, and fits in perfectly: prices of trades,
    quantities of levels. The record of the block is true."""

    blocks: int = 0
    what: Literal["trades", "updates"] = "updates"


class WrongIds(Delivery, frozen=True, kw_only=True, tag="wrong-ids"):
    """The market's id means nothing to the server: accepted in silence, every block empty,
    while book queries show that its sequence moves."""

    blocks: int = 0


class BlockError(Delivery, frozen=True, kw_only=True, tag="block-error"):
    """WebSocket: the block could not be encoded, so an error -32603 with the subscription's
    id stands in for it and the stream goes on. gRPC: the stream ends with INTERNAL."""


class StreamError(Delivery, frozen=True, kw_only=True, tag="stream-error"):
    """The subscription ends: on the WebSocket with an error of code 1 on a connection that
    stays open, on gRPC with INTERNAL "block height mismatch"."""


class Stop(Base, frozen=True, kw_only=True, tag="stop"):
    """The server closes its port and every connection. After `for_s` it is back on the same
    port, with the chain gone on meanwhile; 0 is for good."""

    for_s: float = 0.0


class Disconnect(Base, frozen=True, kw_only=True, tag="disconnect"):
    """Every connection is cut once, without a closing handshake; gRPC streams end UNAVAILABLE."""


class Deaf(Base, frozen=True, kw_only=True, tag="deaf"):
    """Requests are read and never answered, new connections are accepted; what was subscribed
    before goes on."""


class Halt(Base, frozen=True, kw_only=True, tag="halt"):
    """The chain makes no blocks for this time; that is no fault, and queries are answered."""

    for_s: float = 5.0


class StreamLimit(Base, frozen=True, kw_only=True, tag="stream-limit"):
    """No more than so many subscriptions per connection (WebSocket) or streams per server
    (gRPC). One too many is refused; or, if `silent`, confirmed and never served: the way a
    call queues behind a proxy's limit of HTTP/2 streams."""

    limit: int = 5
    silent: bool = False


class SlowSnapshot(Base, frozen=True, kw_only=True, tag="slow-snapshot"):
    """Book queries are answered so much later, with the book of the time of asking."""

    delay_s: float = 1.0


class StaleSnapshot(Base, frozen=True, kw_only=True, tag="stale-snapshot"):
    """Book queries that are not pinned are answered by a node so many blocks behind; its
    height header says so. Pinned ones beyond its head are refused. The RPC is as far behind
    and refuses newer blocks; the indexer's queries of trades are answered from as far back."""

    behind: int = 5


class PrunedStates(Base, frozen=True, kw_only=True, tag="pruned-states"):
    """Books are kept for so few blocks; the results of blocks are kept longer."""

    kept: int = 20


class Refuse(Base, frozen=True, kw_only=True, tag="refuse"):
    """The balancer refuses: HTTP 429 or 503 to a WebSocket handshake or a plain request;
    gRPC calls see what a client makes of it, UNAVAILABLE. `calls` limits how often."""

    status: Literal[429, 503] = 429
    calls: int = 0
    """How many calls are refused; 0 for all."""
    retry_after_s: int = 0
    """What ``Retry-After`` says, over HTTP; 0 for no such header."""


class RateLimit(Base, frozen=True, kw_only=True, tag="rate-limit"):
    """The balancer passes this many gRPC queries in any second, and answers 429 to others."""

    protocol: Protocol | Literal[""] = "grpc"
    per_s: int = 20


class NoResults(Base, frozen=True, kw_only=True, tag="no-results"):
    """The node keeps no block results; `text` is which of its three ways to say so."""

    text: Literal["not available", "not persisting", "not found"] = "not persisting"
    through: int = 0
    """It keeps those after this height; 0 for none at all."""


class HugeResults(Base, frozen=True, kw_only=True, tag="huge-results"):
    """The results of one block are so many bytes (valid, only too long for a reader's limit)."""

    height: int = 0
    """Of the block; 0 for every one."""
    size: int = 70_000_000


class CookieChange(Base, frozen=True, kw_only=True, tag="cookie-change"):
    """The balancer forgets its ``lb`` cookie and hands out another; whoever still sends the
    old one, or none, is served by a backend `behind` blocks behind."""

    behind: int = 5


Fault: TypeAlias = (
    Mute
    | Gap
    | HeightJump
    | Duplicate
    | Reorder
    | Stall
    | Late
    | Garbage
    | Oversized
    | ClockSkew
    | Lie
    | WrongIds
    | BlockError
    | StreamError
    | Stop
    | Disconnect
    | Deaf
    | Halt
    | StreamLimit
    | SlowSnapshot
    | StaleSnapshot
    | PrunedStates
    | Refuse
    | RateLimit
    | CookieChange
    | NoResults
    | HugeResults
)
