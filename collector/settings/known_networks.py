"""The networks known by name, and their endpoints."""

from typing import Final

from shards.protocol.settings import Endpoints

LOCAL: Final = Endpoints(
    chain_ws=("ws://127.0.0.1:9998/injstream-ws",),
    chain_stream=("127.0.0.1:9999",),
    chain_grpc=("127.0.0.1:9900",),
    rpc=("http://127.0.0.1:26657",),
)
"""Your own node with the usual ports."""


def _public(name: str, prefix: str) -> Endpoints:
    """Describe a public network: TLS everywhere, no WebSocket of the chain stream."""
    return Endpoints(
        chain_stream=(f"{prefix}.chain.stream.injective.network:443",),
        chain_grpc=(f"{prefix}.chain.grpc.injective.network:443",),
        rpc=(f"https://{prefix}.tm.injective.network:443",),
        events=(f"k8s.global.{name}.events.grpc.injective.network:443",),
        indexer=(f"{prefix}.exchange.grpc.injective.network:443",),
        tls=True,
    )


NETWORKS: Final = {
    "mainnet": _public("mainnet", "sentry"),
    "testnet": _public("testnet", "testnet.sentry"),
    "local": LOCAL,
    # Its endpoints are only known once it runs.
    "devnet": Endpoints(),
}

BASES: Final = ("mainnet", "testnet", "local")
"""Networks that a file's network may be based on."""
