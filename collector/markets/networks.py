"""
The networks by name, and those that a TOML file describes.

A file's ``[network]`` is used whatever ``--network`` says, ``[networks.NAME]`` where it says
NAME. Either may be ``based_on`` a network known by name, and then keeps what it leaves out.
"""

from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec

from collector.markets.activity import Level
from collector.settings.parts import Supervision
from shards.adapters import registry
from shards.net import tls
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Count, CountOrZero, Endpoints, Limits, SourceName

LOCAL: Final = Endpoints(
    chain_ws=("ws://127.0.0.1:9998/injstream-ws",),
    chain_stream=("127.0.0.1:9999",),
    chain_grpc=("127.0.0.1:9900",),
    rpc=("http://127.0.0.1:26657",),
)
"""A node of one's own with the usual ports."""


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

_BASES: Final = ("mainnet", "testnet", "local")

_KINDS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("chain_ws", ("ws://", "wss://")),
    ("rpc", ("http://", "https://")),
    ("chain_grpc", ()),
    ("chain_stream", ()),
    ("events", ()),
    ("indexer", ()),
)
"""The lists of endpoints, and how their URLs begin; the others are gRPC's host:port."""


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A configuration file; what is left out keeps its default, options override it."""

    network: Endpoints | None = None
    networks: dict[str, Endpoints] = {}
    limits: Limits = Limits()
    supervision: Supervision = Supervision()
    shards: Count | None = None
    markets: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    min_activity: Level | None = None
    top: Count | None = None
    http: str | None = None
    web: str | None = None
    web_allow_remote: bool = False
    ready_coverage: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.99
    metrics_markets: CountOrZero = 300
    state: str | None = None
    """Named from the file's folder."""


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
        for name, section in _network_sections(document):
            _complete(section, name, Path(path).parent)
        if document.get("state") not in (None, "none") and isinstance(document["state"], str):
            document["state"] = str(Path(path).parent / document["state"])
        _no_unknown_keys(document)
        return msgspec.convert(document, File)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{path}: {error}; docs/operations.md lists the keys") from None


def _network_sections(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """List the tables that describe networks, with their places."""
    named = document.get("networks")
    sections = {f"networks.{name}": table for name, table in named.items()} if named else {}
    if "network" in document:
        sections["network"] = document["network"]
    return [(name, table) for name, table in sections.items() if isinstance(table, dict)]


def _complete(section: dict[str, Any], name: str, folder: Path) -> None:
    """Fill in what the network that it is based on has; files are named from the file's folder."""
    for key in ("ca", "certificate", "key"):
        if isinstance(section.get(key), str) and section[key]:
            section[key] = str(folder / section[key])
    base = section.pop("based_on", None)
    if base is None:
        return
    if base not in _BASES:
        raise ValueError(f"{base!r} is none of {', '.join(_BASES)} - at `$.{name}.based_on`")
    inherited: dict[str, Any] = msgspec.to_builtins(NETWORKS[base])
    for key, value in inherited.items():
        section.setdefault(key, value)


def _no_unknown_keys(document: dict[str, Any]) -> None:
    """Endpoints and Limits travel to the shards too, so their strictness is here."""
    sections: list[tuple[str, dict[str, Any], type[msgspec.Struct]]] = [
        (name, table, Endpoints) for name, table in _network_sections(document)
    ]
    sections += [
        (name, document[name], struct)
        for name, struct in (("limits", Limits), ("supervision", Supervision))
        if isinstance(document.get(name), dict)
    ]
    for name, section, struct in sections:
        for key in section:
            if key not in struct.__struct_fields__:
                raise ValueError(f"Object contains unknown field `{key}` - at `$.{name}`")


def described(network: str, file: File) -> tuple[str, Endpoints]:
    """
    Return where a network is reached, and the place of its description in the file.

    The file's word goes before that of the names.

    Raises:
        ConfigError: If neither knows the network.

    """
    if network in file.networks:
        return f"networks.{network}", file.networks[network]
    if file.network is not None:
        return "network", file.network
    if network not in NETWORKS:
        known = ", ".join([*NETWORKS, *file.networks])
        raise ConfigError(
            f"no network {network!r}: there are {known}; "
            f"describe yours as [networks.{network}] in a --config file"
        )
    return "network", NETWORKS[network]


def source(network: str, file: File) -> SourceName:
    """Return what is read on a network unless something else is asked for."""
    _, found = described(network, file)
    return registry.preferred(found).name


def endpoints(network: str, file: File, source: SourceName) -> Endpoints:
    """
    Return where a network is reached, looked over.

    Raises:
        ConfigError: If it is not known, or not described as it must be for this source.

    """
    place, found = described(network, file)
    check(found, source, place)
    return found


def check(found: Endpoints, source: SourceName, place: str = "network") -> None:
    """
    Look at the form of endpoints, and whether a source has all that it needs.

    Raises:
        ConfigError: If one of them cannot be what it should be.

    """
    needed = registry.adapter(source).needs
    schemes_of = dict(_KINDS)
    for name in dict.fromkeys((*schemes_of, *sorted(needed))):
        values = found.of(name)
        if not values and name in needed:
            raise ConfigError(
                f"{place}.{name} is empty, and the source {source} needs it: "
                "name your own node's in a --config file, or take another --source"
            )
        # What those of other adapters look like is theirs to say.
        for value in values if name in schemes_of else ():
            _check_endpoint(value, schemes_of[name], f"{place}.{name}")
    for name in ("requests_per_s", "indexer_requests_per_s"):
        rate: float | None = getattr(found, name)
        if rate is not None and not 0.0 <= rate < float("inf"):
            raise ConfigError(f"{place}.{name}: {rate} is not a number of requests; 0 is no limit")
    if found.ca or found.certificate or found.key:
        tls.ssl_context(found, place)


def _check_endpoint(value: str, schemes: tuple[str, ...], place: str) -> None:
    scheme, found, address = value.rpartition("://")
    if schemes and f"{scheme}{found}" not in schemes:
        expected = " or ".join(schemes)
        raise ConfigError(f"{place}: {value!r} does not begin with {expected}")
    if not schemes and scheme not in ("", "http", "https"):
        raise ConfigError(f"{place}: {value!r} is neither host:port nor http(s)://host:port")
    try:
        url = urlsplit(f"//{address}")
        if not url.hostname or (not schemes and url.port is None):
            raise ValueError
    except ValueError:
        raise ConfigError(f"{place}: {value!r} is not host:port") from None
