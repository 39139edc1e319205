"""The configuration file that `collector init` writes: every key, most of them commented out."""

import textwrap
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from collector.settings.known_networks import BASES, NETWORKS
from collector.settings.parts import ProcessSettings, Supervision
from collector.settings.start_options import ROWS, OptionRow
from shards.adapters import registry
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Limits

_WIDTH: Final = 100
_ABOUT: Final = {
    "limits": "Bounds and paces of the shards (docs/operations.md says what each is).",
    "supervision": "How patient the supervisor is, in seconds.",
    "processes": "How shards and aggregator are scheduled, and which processors each kind may use.",
}


def template(network: str) -> str:
    """
    Return the text of a configuration for a network.

    Raises:
        ConfigError: If it is not one of those that are known by name.

    """
    if network not in NETWORKS:
        raise ConfigError(
            f"--network must be one of {', '.join(NETWORKS)}, not {network!r}: for one of your own "
            "take 'local', and write its endpoints into the file"
        )
    blocks = [
        "# What `collector start --config` reads. A line with # in front has the default.\n",
        *_options(network),
        *_network(network),
        *_table("limits", Limits()),
        *_table("supervision", Supervision()),
        *_table("processes", ProcessSettings()),
    ]
    return "\n".join(blocks)


def _options(network: str) -> Iterator[str]:
    for row in ROWS.values():
        words = "\n".join(
            textwrap.wrap(row.help, _WIDTH, initial_indent="# ", subsequent_indent="# ")
        )
        if row.name == "network":
            # A table of that name says where it is; a devnet has no endpoints of its own.
            if network == "devnet":
                yield f'{words}\nnetwork = "devnet"\n'
            continue
        value = _unset(row) if row.default in (None, "") else toml(row.default)
        yield f"{words}\n# {row.name} = {value}\n"


def _unset(row: OptionRow) -> str:
    """Say of a key without a default what kind of value it takes."""
    kind = " or ".join(row.choices) or row.metavar or "a number"
    return f"…  ({kind}; left out: {row.shown_default})"


def _network(network: str) -> Iterator[str]:
    """Describe where the network is reached."""
    if network == "devnet":
        return
    known = NETWORKS[network]
    lines = ["# Where the network is reached: each list in order of preference."]
    lines += ["[network]"]
    lines += [f'based_on = "{network}"'] if network in BASES else []
    for name in registry.endpoint_kinds():
        values = known.of(name)
        lines.append(f"# {name} = {toml(values)}")
    for name in ("tls", "ca", "certificate", "key", "cookies"):
        lines.append(f"# {name} = {toml(getattr(known, name))}")
    for name in dict.fromkeys(quota.setting for quota in registry.quotas()):
        lines.append(f"# {name} = …  (a number; to one host, all processes together)")
    yield "\n".join(lines) + "\n"


def _table(name: str, defaults: msgspec.Struct) -> Iterator[str]:
    lines = [f"# {_ABOUT[name]}", f"[{name}]"]
    lines += [
        f"# {field} = {toml(getattr(defaults, field))}" for field in defaults.__struct_fields__
    ]
    yield "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    """Write a value as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.asdict(value).items()
        return f"{{ {', '.join(f'{name} = {toml(one)}' for name, one in fields)} }}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return repr(value)
