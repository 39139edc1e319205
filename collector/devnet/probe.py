"""Ask a node that may not be there: every question has an answer within a second."""

import http.client
import json
import socket
from collections.abc import Iterable

from collector.devnet.ports import LOOPBACK
from shards.protocol.errors import UNREADABLE

_TIMEOUT_S = 1.0
_ACTIVE = b"\x0a\x06Active"
"""The request of both market queries: field 1, the status."""
_QUERY = "/injective.exchange.v2.Query/"


def height(rpc_port: int) -> int:
    """Give the height of the last committed block; 0 if the node does not answer."""
    connection = http.client.HTTPConnection(LOOPBACK, rpc_port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/status")
        status = json.load(connection.getresponse())
        return int(status["result"]["sync_info"]["latest_block_height"])
    except (OSError, http.client.HTTPException, *UNREADABLE, KeyError, TypeError):
        return 0
    finally:
        connection.close()


def accepts(port: int) -> bool:
    """Say whether somebody listens on the port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def lists_markets(grpc_port: int, market_ids: Iterable[str]) -> bool:
    """Say whether the chain's gRPC lists all these markets as active."""
    import grpc

    with grpc.insecure_channel(f"{LOOPBACK}:{grpc_port}") as channel:
        try:
            # Bytes in, bytes out: the ids are plain text in them, and the message classes
            # would cost half a second of imports.
            answers = b"".join(
                channel.unary_unary(_QUERY + name)(_ACTIVE, timeout=_TIMEOUT_S)
                for name in ("SpotMarkets", "DerivativeMarkets")
            )
        except grpc.RpcError:
            return False
    return all(market_id.encode() in answers for market_id in market_ids)
