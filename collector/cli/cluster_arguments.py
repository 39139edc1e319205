"""The options of `collector start` that every cell of a cluster gets: checked before any host is asked."""

import os
from collections.abc import Mapping, Sequence
from typing import Final

from click.core import ParameterSource

from collector.cli.start import start
from shards.protocol.errors import ConfigError

_OWN: Final[Mapping[str, str]] = {
    "publish": "each cell publishes at its host's address: --port of 'cluster up' says from which",
    "part": "each cell gets its part: --parts of 'cluster up' says how many there are",
    "state": "each cell has its state in --folder of 'cluster up'",
    "admin": "cells of one host cannot share an address",
    "http": "cells of one host cannot share an address",
    "web": "cells of one host cannot share an address: 'collector dashboard' shows any of them",
    "summary": "cells cannot share a file",
    "duration": "a cell that ends is started again",
    "min_coverage": "a cell that ends is started again",
}
"""Options that make no sense for a cell of a cluster, and why."""
_PATHS: Final = ("config", "keys", "authorized_keys", "tls_cert", "tls_key", "record")


def check(arguments: Sequence[str], host: str) -> None:
    """
    Check the options of the cells.

    Raises:
        ConfigError: If they cannot be those of a cell.
        click.UsageError: If `start` does not know them.

    """
    ctx = start.make_context("start", list(arguments))
    given = {
        name: value
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    for name, why in _OWN.items():
        if name in given:
            raise ConfigError(f"-- --{name.replace('_', '-')}: {why}")
    for name in _PATHS:
        if name in given and not os.path.isabs(str(given[name])):
            raise ConfigError(
                f"-- --{name.replace('_', '-')} {given[name]}: give the whole path; every host "
                "reads its own file there"
            )
    if given.get("network") == "devnet" and not given.get("config"):
        raise ConfigError("-- --network devnet: each cell would start a chain of its own")
    _check_open(host, has_keys=bool(given.get("keys")), is_insecure=bool(given.get("insecure")))


def _check_open(host: str, *, has_keys: bool, is_insecure: bool) -> None:
    from collector.access import refusal

    named = f"[{host}]" if ":" in host else host
    said = refusal.of_publisher(f"tcp://{named}:1", "a cell at", has_keys=has_keys or is_insecure)
    if said:
        raise ConfigError(
            f"cells on {host} can be reached from other machines, and anyone there could read "
            "everything: give -- --keys FILE ('collector keys new server' makes one), or "
            "-- --insecure if that is meant"
        )
