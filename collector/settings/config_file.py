"""
The configuration file: all options of `collector start`, and settings without an option.

The keys at its top are the fields of `StartOptions`. Tables describe networks (``[network]``,
``[networks.NAME]``), the shards' ``[limits]``, how patient the ``[supervision]`` is, how
``[processes]`` are scheduled, and what readers may use up (``[access]``).
Every mistake is one sentence with the file and the key.
"""

import os
import select
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from collector.settings.known_networks import BASES, NETWORKS
from collector.settings.parts import AccessLimits, Cpus, ProcessSettings, Supervision
from collector.settings.start_options import ROWS
from collector.settings.wording import converted, did_you_mean, shown
from shards.protocol.errors import UNREADABLE, ConfigError
from shards.protocol.settings import Endpoints, Limits

_S = TypeVar("_S", bound=msgspec.Struct)

_TABLES: Final = ("network", "networks", "limits", "supervision", "processes", "access")
_WRITER_MS: Final = 3_000
_PATHS: Final = ("ca", "certificate", "key")
_OPTION_PATHS: Final = frozenset(
    ("state", "keys", "authorized_keys", "tls_cert", "tls_key", "record", "summary")
)
_NO_PATHS: Final = {"state": ("none",), "summary": ("-", ""), "record": ("",)}
"""Values that name no file."""
_MOVED: Final = frozenset(("record", "summary"))
"""Before 2026-11-29 these were relative to the folder in which `collector start` ran."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed configuration file."""

    path: str = ""
    network: Endpoints | None = None
    """Its ``[network]`` table, used unless another network is chosen."""
    networks: Mapping[str, Endpoints] = {}
    limits: Limits = Limits()
    supervision: Supervision = Supervision()
    processes: ProcessSettings = ProcessSettings()
    access: AccessLimits = AccessLimits()
    options: Mapping[str, Any] = {}
    """The fields of `StartOptions` that the file sets."""
    notes: Mapping[str, str] = {}
    """By option: what to say of its relative path."""


def read(path: str) -> File:
    """
    Read a configuration file.

    Raises:
        ConfigError: If it cannot be read, is not TOML, or has an unknown key or a wrong type.

    """
    try:
        content = _content(path)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    return parse(path, content)


def _content(path: str) -> bytes:
    """Read a file; a named pipe (`--config <(…)` has one) only if something writes to it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            writers = select.poll()
            writers.register(descriptor, select.POLLIN)
            if not writers.poll(_WRITER_MS):
                raise ConfigError(
                    f"the configuration {path} is a pipe, and nothing was written to it within "
                    f"{_WRITER_MS // 1000} s"
                )
            os.set_blocking(descriptor, True)
        return file.read()


def parse(path: str, content: bytes) -> File:
    """
    Parse a configuration file's content; relative file names are relative to its folder.

    Raises:
        ConfigError: If it is not TOML, or has an unknown key or a wrong type.

    """
    try:
        document: Any = msgspec.toml.decode(content)
    except UNREADABLE as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    try:
        return _file(path, document)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _file(path: str, document: dict[str, Any]) -> File:
    """Convert a document; raises ValueError with the key first."""
    folder = Path(path).parent
    # `network = "mainnet"` names one, `[network]` describes one.
    is_table = isinstance(document.get("network"), dict)
    own = _endpoints("network", document["network"], folder) if is_table else None
    networks = {
        name: _endpoints(f"networks.{name}", table, folder)
        for name, table in _table("networks", document.get("networks", {})).items()
    }
    notes: dict[str, str] = {}
    found = dict(_options(document, folder, notes, is_table=is_table))
    return File(
        path=path,
        network=own,
        networks=networks,
        limits=_struct("limits", document.get("limits", {}), Limits),
        supervision=_struct("supervision", document.get("supervision", {}), Supervision),
        processes=_processes(document.get("processes", {})),
        access=_struct("access", document.get("access", {}), AccessLimits),
        options=found,
        notes=notes,
    )


def _processes(value: Any) -> ProcessSettings:
    table = dict(_table("processes", value))
    cpus = _struct("processes.cpus", table.pop("cpus", {}), Cpus)
    return msgspec.structs.replace(_struct("processes", table, ProcessSettings), cpus=cpus)


def _options(
    document: dict[str, Any], folder: Path, notes: dict[str, str], *, is_table: bool
) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        row = ROWS.get(key)
        if row is None or (key == "network" and is_table):
            if key not in _TABLES:
                raise ValueError(_unknown(key, "", (*ROWS, *_TABLES)))
            continue
        if key == "network" and not isinstance(value, str):
            raise ValueError(f"network must be a name or a table of endpoints, not {shown(value)}")
        try:
            found = converted(value, row.type, row.choices)
        except ValueError as error:
            raise ValueError(f"{key} must be {error}") from None
        # They are relative to the file's folder, like certificates.
        is_path = key in _OPTION_PATHS and found not in _NO_PATHS.get(key, ())
        if is_path and not found:
            raise ValueError(f"{key} is empty: give it a value, or leave it out")
        if is_path and key in _MOVED:
            found, note = _moved(key, found, folder)
            notes |= {key: note} if note else {}
        yield key, str(folder / found) if is_path else found


def _moved(key: str, given: str, folder: Path) -> tuple[str, str]:
    """
    Return where a path is that was relative to the working folder before, and what to say of it.

    What is there already stays in use, so that no archive is continued in a second folder.
    """
    try:
        working = Path.cwd()
    except OSError:
        # It was removed, so nothing is there.
        return given, ""
    here, beside = working / given, working / folder / given
    if os.path.realpath(here) == os.path.realpath(beside):
        return given, ""
    rule = "a relative path belongs to the folder of this file"
    if not os.path.lexists(here):
        return given, f"{key} is {beside}: {rule}"
    if os.path.lexists(beside):
        raise ValueError(
            f"{key} is ambiguous: {rule}, and {beside} is there, but so is {here}: write it out"
        )
    return str(here), f"{key} is {here} because that is there, but {rule}: write it out"


def _unknown(key: str, place: str, known: tuple[str, ...]) -> str:
    """Return a sentence about an unknown key; an option's name may be meant."""
    flags = {row.flag[2:].replace("-", "_"): row.name for row in ROWS.values()} if not place else {}
    meant = f"; it is spelled {flags[key]}" if key in flags else did_you_mean(key, known)
    where = f" in [{place}]" if place else ""
    return f"there is no key {shown(key)}{where}{meant or '; docs/operations.md lists the keys'}"


def _table(place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place} must be a table, not {_kind(value)}")
    return value


def _endpoints(place: str, value: Any, folder: Path) -> Endpoints:
    """Convert a network's table, with defaults from its base; file names are relative."""
    table = dict(_table(place, value))
    for key in _PATHS:
        if isinstance(table.get(key), str) and table[key]:
            table[key] = str(folder / table[key])
    base = table.pop("based_on", None)
    if base is not None and base not in BASES:
        meant = did_you_mean(str(base), BASES)
        raise ValueError(
            f"{place}.based_on must be one of {', '.join(BASES)}, not {shown(base)}{meant}"
        )
    own = _struct(place, table, Endpoints, more=("based_on",))
    if base is None:
        return own
    return msgspec.structs.replace(NETWORKS[base], **{key: getattr(own, key) for key in table})


def _struct(place: str, value: Any, kind: type[_S], more: tuple[str, ...] = ()) -> _S:
    """Convert a table key by key, so that an error names its key."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    found = {}
    for key, given in _table(place, value).items():
        if key not in fields:
            raise ValueError(_unknown(key, place, (*fields, *more)))
        try:
            found[key] = converted(given, fields[key].type)
        except ValueError as error:
            # Endpoints may contain secrets: do not repeat the text.
            said = str(error).partition(", not ")[0] + f", not {_kind(given)}"
            raise ValueError(f"{place}.{key} must be {said}") from None
    return kind(**found)


def _kind(value: Any) -> str:
    """Describe a value without repeating a text."""
    if isinstance(value, str):
        return "a text"
    if isinstance(value, list):
        return (
            "a list of texts"
            if all(isinstance(item, str) for item in value)
            else "a list of others"
        )
    return shown(value)
