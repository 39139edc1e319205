"""The networks by name, and those that a TOML file describes."""

from pathlib import Path
from typing import Any, Final

import msgspec

from collector.config import Supervision
from shards.config import Endpoints, Limits, SourceName
from shards.errors import ConfigError

LOCAL: Final = Endpoints(
    chain_ws=("ws://127.0.0.1:9998/injstream-ws",),
    chain_stream=("127.0.0.1:9999",),
    chain_grpc=("127.0.0.1:9900",),
    rpc=("http://127.0.0.1:26657",),
)
"""A node of one's own with the usual ports."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network that is known by name."""

    endpoints: Endpoints
    source: SourceName = "chain-ws"
    """What is read there unless something else is asked for."""
    requests_per_s: float = 0.0
    """What its servers allow one address, all shards together; 0: no limit is known."""


def _public(prefix: str) -> Network:
    """Describe a public network: TLS everywhere, no WebSocket of the chain stream."""
    return Network(
        endpoints=Endpoints(
            chain_stream=(f"{prefix}.chain.stream.injective.network:443",),
            chain_grpc=(f"{prefix}.chain.grpc.injective.network:443",),
            rpc=(f"https://{prefix}.tm.injective.network:443",),
            events=("k8s.global.mainnet.events.grpc.injective.network:443",)
            if prefix == "sentry"
            else ("k8s.global.testnet.events.grpc.injective.network:443",),
            indexer=(f"{prefix}.exchange.grpc.injective.network:443",),
            tls=True,
        ),
        source="chain-grpc",
        requests_per_s=20.0,
    )


NETWORKS: Final = {
    "mainnet": _public("sentry"),
    "testnet": _public("testnet.sentry"),
    "local": Network(endpoints=LOCAL),
    # Its endpoints are only known once it runs.
    "devnet": Network(endpoints=Endpoints()),
}


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A configuration file; what is left out keeps its default, options override it."""

    network: Endpoints | None = None
    limits: Limits = Limits()
    supervision: Supervision = Supervision()
    shards: int | None = None
    markets: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    http: str | None = None
    ready_coverage: float = 0.99
    metrics_markets: int = 300


def read(path: str) -> File:
    """
    Read a configuration file.

    Raises:
        ConfigError: If it cannot be read, is not TOML, or has an unknown key or a wrong type.

    """
    try:
        document: Any = msgspec.toml.decode(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    try:
        _no_unknown_keys(document)
        return msgspec.convert(document, File)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{path}: {error}; docs/operations.md lists the keys") from None


def _no_unknown_keys(document: dict[str, Any]) -> None:
    """Endpoints and Limits travel to the shards too, so their strictness is here."""
    sections = (("network", Endpoints), ("limits", Limits), ("supervision", Supervision))
    for name, struct in sections:
        section = document.get(name)
        for key in section if isinstance(section, dict) else ():
            if key not in struct.__struct_fields__:
                raise ValueError(f"Object contains unknown field `{key}` - at `$.{name}`")


def endpoints(network: str, file: File, source: SourceName) -> Endpoints:
    """Return where a network is reached; the file's word goes before the name's."""
    found = NETWORKS[network].endpoints if file.network is None else file.network
    check(found, source)
    return found


def limits(network: str, file: File, *, shards: int) -> Limits:
    """Return one shard's limits: its share of what a public network allows."""
    allowed = NETWORKS[network].requests_per_s if file.network is None else 0.0
    if not allowed or file.limits.requests_per_s:
        return file.limits
    return msgspec.structs.replace(file.limits, requests_per_s=allowed / shards)


def check(found: Endpoints, source: SourceName) -> None:
    """
    Look at the form of endpoints, and whether a source has all that it needs.

    Raises:
        ConfigError: If one of them cannot be an endpoint of its kind.

    """
    stream = "chain_ws" if source == "chain-ws" else "chain_stream"
    kinds = (
        ("chain_ws", found.chain_ws, ("ws://", "wss://")),
        ("rpc", found.rpc, ("http://", "https://")),
        ("chain_grpc", found.chain_grpc, ()),
        ("chain_stream", found.chain_stream, ()),
    )
    for name, values, schemes in kinds:
        if not values and name in (stream, "rpc", "chain_grpc"):
            raise ConfigError(
                f"network.{name} is empty, and the source {source} needs it: "
                "name your own node's in a --config file, or take another --source"
            )
        for value in values:
            if schemes and not value.startswith(schemes):
                expected = " or ".join(schemes)
                raise ConfigError(f"network.{name}: {value!r} does not begin with {expected}")
            if not schemes and not value.rpartition(":")[2].isdecimal():
                raise ConfigError(f"network.{name}: {value!r} is not host:port")
