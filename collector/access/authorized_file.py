"""
``authorized_keys.toml``: the keys that may connect, and what each may do.

::

    [[key]]
    name = 'bob'
    public = '…'             # 40 characters, the second word of bob.pub
    role = 'read'            # or 'operate': admin commands too
    topics = ['trades.*']    # what he may read; default: everything
    max_connections = 8
    token = 'sha256:…'       # the third word of bob.pub, for HTTP

The file is read again whenever it changes. An error message names the file and the key.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from collector.access.key_files import Public, is_name, is_public, is_token_hash, read_guarded
from collector.access.rights import Rights
from collector.settings.wording import converted, did_you_mean, shown
from shards.protocol.errors import UNREADABLE, ConfigError
from shards.protocol.settings import Count

KeyRole = Literal["read", "operate"]
FILE: Final = "authorized_keys.toml"
_begins_key: Final = re.compile(r"^[ \t]*\[\[[ \t]*key[ \t]*\]\]", re.MULTILINE)


class AuthorizedKey(msgspec.Struct, frozen=True, kw_only=True):
    """One authorized key."""

    name: str
    public: str
    role: KeyRole = "read"
    topics: tuple[str, ...] = ("*",)
    max_connections: Count = 8
    token: str = ""


class Authorized:
    """The authorized keys with their rights; immutable."""

    def __init__(self, keys: Iterable[AuthorizedKey] = ()) -> None:
        self.keys = tuple(keys)
        self.rights: Mapping[str, Rights] = {key.name: Rights(key.topics) for key in self.keys}
        self.by_name: Mapping[str, AuthorizedKey] = {key.name: key for key in self.keys}
        self.by_public: Mapping[str, AuthorizedKey] = {key.public: key for key in self.keys}
        self._by_token = {key.token: key for key in self.keys if key.token}

    def of_token(self, token: str) -> AuthorizedKey | None:
        """Return the key that a token belongs to, or None."""
        # Looked up by hash, so that the time of the search reveals nothing about the token.
        return self._by_token.get(f"sha256:{hashlib.sha256(token.encode()).hexdigest()}")


def read(path: Path) -> Authorized:
    """
    Read the file.

    Raises:
        ConfigError: If it cannot be read, others may change it, or something in it is wrong.

    """
    text = read_guarded(path, secret=False)
    try:
        return Authorized(_keys(text))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _keys(text: str) -> list[AuthorizedKey]:
    try:
        document: dict[str, Any] = msgspec.toml.decode(text)
    except UNREADABLE as error:
        raise ValueError(f"not TOML: {error}") from None
    for name in document:
        if name != "key":
            raise ValueError(f"there is no table {shown(name)}; a key is a [[key]]")
    rows = document.get("key", [])
    if not isinstance(rows, list):
        raise ValueError("a key is a [[key]], with two brackets")
    keys: list[AuthorizedKey] = []
    for number, row in enumerate(rows, 1):
        key = _key(row, f"key {number}")
        for other in keys:
            for field in ("name", "public", "token"):
                if getattr(key, field) and getattr(key, field) == getattr(other, field):
                    raise ValueError(f"key {number} has the {field} of another: {other.name}")
        keys.append(key)
    return keys


def _key(row: Any, place: str) -> AuthorizedKey:
    fields = {field.name: field for field in msgspec.structs.fields(AuthorizedKey)}
    if not isinstance(row, dict):
        raise ValueError(f"{place} must be a table")
    name = row.get("name")
    if isinstance(name, str) and is_name(name):
        place = f"{place} ({name})"
    else:
        raise ValueError(f"{place} needs a name: letters, digits and . _ @ -, 64 at most")
    for field in row:
        if field not in fields:
            raise ValueError(
                f"{place} has an unknown field {shown(field)}{did_you_mean(field, fields)}"
            )
    found = {}
    for field, value in row.items():
        try:
            found[field] = converted(value, fields[field].type)
        except ValueError as error:
            raise ValueError(f"{place}: {field} must be {error}") from None
    if not is_public(found.get("public", "")):
        raise ValueError(f"{place}: public must be the 40 characters of its public key")
    if found.get("token") and not is_token_hash(found["token"]):
        raise ValueError(f"{place}: token must be sha256: and 64 digits, as in its .pub file")
    key = AuthorizedKey(**found)
    try:
        Rights(key.topics)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    return key


# -- changing the file -------------------------------------------------------------------


def add(path: Path, key: AuthorizedKey) -> None:
    """
    Add a key; the rest of the file, comments included, is unchanged.

    Raises:
        ConfigError: If the key is already there, or the file is invalid or cannot be written.

    """
    text = read_guarded(path, secret=False) if path.exists() else ""
    if text and key.name in read(path).by_name:
        raise ConfigError(
            f"{path} has a key of {key.name} already: 'collector keys revoke {key.name}' first, "
            "or give this one another name with --name"
        )
    _replace(path, f"{text.rstrip()}\n\n{_block(key)}".lstrip())


def remove(path: Path, name: str) -> None:
    """
    Remove a key; the rest of the file is unchanged.

    Raises:
        ConfigError: If no key has that name, or the file is invalid or cannot be written.

    """
    known = read(path)
    names = [key.name for key in known.keys]
    if name not in names:
        raise ConfigError(f"{path} has no key {name!r}{did_you_mean(name, names)}")
    text = read_guarded(path, secret=False)
    begins = [found.start() for found in _begins_key.finditer(text)]
    if len(begins) != len(names):
        raise ConfigError(
            f"{path}: remove the [[key]] of {name} by hand; the file is written unusually"
        )
    number = names.index(name)
    ends = [*begins[1:], len(text)][number]
    _replace(path, f"{text[: begins[number]].rstrip()}\n\n{text[ends:]}".lstrip())
    if name in read(path).by_name:
        raise ConfigError(f"{path}: {name} is still there; remove its [[key]] by hand")


def _block(key: AuthorizedKey) -> str:
    lines = [f"name = '{key.name}'", f"public = '{key.public}'", f"role = '{key.role}'"]
    lines.append(f"topics = [{', '.join(map(_quoted, key.topics))}]")
    lines.append(f"max_connections = {key.max_connections}")
    if key.token:
        lines.append(f"token = '{key.token}'")
    return "[[key]]\n" + "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _replace(path: Path, text: str) -> None:
    """Replace the file atomically with a checked text: readers see the old or the new one."""
    try:
        _keys(text)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def of_public(public: Public, *, name: str = "", **fields: Any) -> AuthorizedKey:
    """
    Make an entry of a public key.

    Raises:
        ConfigError: If it has no name.

    """
    if not (name or public.name):
        raise ConfigError("the public key has no name: give one with --name")
    return AuthorizedKey(
        name=name or public.name, public=public.public, token=public.token, **fields
    )
