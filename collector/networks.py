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

NETWORKS: Final = ("local", "devnet")


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A configuration file; what is left out keeps its default, options override it."""

    network: Endpoints | None = None
    limits: Limits = Limits()
    supervision: Supervision = Supervision()
    shards: int | None = None
    markets: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()


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


def endpoints(network: str, file: File, source: SourceName = "chain-ws") -> Endpoints:
    """Return where a network is reached; the file's word goes before the name's."""
    if file.network is not None:
        check(file.network, source)
        return file.network
    return LOCAL


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
            raise ConfigError(f"network.{name} is empty: the source {source} needs it")
        for value in values:
            if schemes and not value.startswith(schemes):
                expected = " or ".join(schemes)
                raise ConfigError(f"network.{name}: {value!r} does not begin with {expected}")
            if not schemes and not value.rpartition(":")[2].isdecimal():
                raise ConfigError(f"network.{name}: {value!r} is not host:port")
