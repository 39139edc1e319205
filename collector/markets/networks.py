"""
The endpoints of a network: a known one, or one described in the configuration.

The file's ``[networks.NAME]`` is selected by its name. Its ``[network]`` describes ``local``, the
default network, and no other.
"""

from urllib.parse import urlsplit

from collector.settings.config_file import File as File, read as read
from collector.settings.known_networks import LOCAL as LOCAL, NETWORKS as NETWORKS
from collector.settings.wording import did_you_mean, shown
from shards.adapters import registry
from shards.net import tls
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Endpoints, SourceName


def described(network: str, file: File) -> tuple[str, Endpoints]:
    """
    Return a network's endpoints, and the path of its description in the file.

    Raises:
        ConfigError: If the network is unknown, or the file describes another one.

    """
    if network in file.networks:
        return f"networks.{network}", file.networks[network]
    if network not in NETWORKS:
        known = [*NETWORKS, *file.networks]
        raise ConfigError(
            f"no network {shown(network)}: there are {', '.join(known)}; "
            f"describe yours as [networks.{network}] in a --config file"
            f"{did_you_mean(network, known)}"
        )
    if file.network is None:
        return "network", NETWORKS[network]
    if network != "local":
        raise ConfigError(
            f"the network {network} is asked for, and the [network] of {file.path or 'the file'} "
            f"is another one: leave out --network {network}, or call that table "
            f"[networks.NAME] and take it with --network NAME"
        )
    return "network", file.network


def title(network: str, file: File) -> str:
    """Return a network's name for people; a network from the file is not called ``local``."""
    if network in file.networks or file.network is None:
        return network
    return f"the [network] of {file.path}"


def source(network: str, file: File) -> SourceName:
    """Return the default source for a network."""
    _, found = described(network, file)
    return registry.preferred(found).name


def endpoints(network: str, file: File, source: SourceName) -> Endpoints:
    """
    Return a network's endpoints, checked.

    Raises:
        ConfigError: If the network is unknown, or its endpoints do not suit this source.

    """
    place, found = described(network, file)
    check(found, source, place)
    return found


def check(found: Endpoints, source: SourceName, place: str = "network") -> None:
    """
    Check the form of the endpoints, and whether the source has all that it needs.

    Raises:
        ConfigError: If an endpoint is malformed or missing.

    """
    needed = registry.adapter(source).needs
    kinds = registry.endpoint_kinds()
    for name in dict.fromkeys((*kinds, *sorted(needed))):
        values = found.of(name)
        if not values and name in needed:
            raise ConfigError(
                f"{place}.{name} is empty, and the source {source} needs it: "
                "name your own node's in a --config file, or take another --source"
            )
        for value in values if name in kinds else ():
            _check_endpoint(value, kinds[name].schemes, f"{place}.{name}")
    for name in dict.fromkeys(quota.setting for quota in registry.quotas()):
        rate: float | None = getattr(found, name)
        if rate is not None and not 0.0 <= rate < float("inf"):
            raise ConfigError(f"{place}.{name}: {rate} is not a number of requests; 0 is no limit")
    if found.ca or found.certificate or found.key:
        tls.ssl_context(found, place)


def check_redundancy(nodes: int, network: str, file: File, source: SourceName) -> None:
    """
    Check that there are enough endpoints to read this many nodes at once.

    Raises:
        ConfigError: If there are fewer.

    """
    place, found = described(network, file)
    name = registry.adapter(source).stream
    values = found.of(name)
    if network == "devnet" and network not in file.networks:
        raise ConfigError(f"redundancy = {nodes} needs {nodes} nodes, and a devnet has one")
    if len(set(values)) < nodes:
        raise ConfigError(
            f"redundancy = {nodes} needs {nodes} nodes, and {place}.{name} names "
            f"{len(set(values))}: name {nodes} or more in a --config file"
        )


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
