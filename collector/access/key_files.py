"""
Key files: ``NAME.key``, readable by its owner only, and ``NAME.pub``, which is public.

A key file holds a CURVE key pair in ZeroMQ's encoding (Z85, 40 characters), and a token for HTTP. A
reader's key file also has the server's public key. It is never taken from the connection, because
the reader could not distinguish the collector from an attacker in between.
"""

import contextlib
import hashlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any, Final

import msgspec

from shards.protocol.errors import UNREADABLE, ConfigError

is_name: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}").fullmatch
"""Valid names of keys: a name becomes a file name, a metric label and a word in log lines."""
is_public: Final = re.compile(r"[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}").fullmatch
"""Z85, 40 characters: 32 bytes."""
is_token_hash: Final = re.compile(r"sha256:[0-9a-f]{64}").fullmatch
_TOKEN_BYTES: Final = 32


class Keys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    A key pair as a client or a collector uses it.

    `Subscriber(keys="bob.key")` reads it from a file; `Keys.read` does the same.
    """

    public: str
    secret: str
    server: str = ""
    """The collector's public key; a client needs it, a collector does not."""
    name: str = ""
    token: str = ""
    """For HTTP: ``Authorization: Bearer TOKEN``."""

    def __repr__(self) -> str:
        return f"Keys(name={self.name!r}, public={self.public!r})"

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, server: str = "") -> "Keys":
        """
        Read a key file.

        Args:
            server: The collector's public key, or a file with it, if the key file names none.

        Raises:
            ConfigError: If it cannot be read, others may read it, or it is no key file.

        """
        found = _read(Path(path))
        if not server:
            return found
        return msgspec.structs.replace(found, server=public_of(server).public)

    def of_client(self) -> "Keys":
        """
        Return these keys, if a client can use them.

        Raises:
            ConfigError: If they name no server.

        """
        if self.server:
            return self
        raise ConfigError(
            f"the key of {self.name or 'this client'} names no collector: add a line "
            "server = '…' with the public key of the one that you ask; its operator has it"
        )


class Public(msgspec.Struct, frozen=True):
    """The public part of a key: the one line of ``NAME.pub``."""

    name: str
    public: str
    token: str = ""
    """``sha256:`` and the hash of the token."""

    @property
    def line(self) -> str:
        """The line that `collector keys authorize` takes."""
        return " ".join(filter(None, (self.name, self.public, self.token)))


def token_hash(token: str) -> str:
    """Return the hash that is stored for a token: it identifies the token and cannot replace it."""
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"


def make(name: str, *, server: str = "") -> Keys:
    """
    Make a key pair and a token.

    Raises:
        ConfigError: If the name is not valid.

    """
    if not is_name(name):
        raise ConfigError(
            f"a key is named with letters, digits and . _ @ -, 64 at most, not {name!r:.80}"
        )
    import zmq

    public, secret = zmq.curve_keypair()
    while public.startswith(b"-"):
        # On a command line it would be taken for an option.
        public, secret = zmq.curve_keypair()
    return Keys(
        name=name,
        public=public.decode(),
        secret=secret.decode(),
        server=server,
        token=secrets.token_urlsafe(_TOKEN_BYTES),
    )


def public_part(keys: Keys) -> Public:
    """Return what everybody may know of a key."""
    return Public(keys.name, keys.public, token_hash(keys.token) if keys.token else "")


def write(keys: Keys, folder: Path) -> tuple[Path, Path]:
    """
    Write ``NAME.key``, for its owner alone, and ``NAME.pub``; return the two paths.

    Raises:
        ConfigError: If one of them is there already, or cannot be written.

    """
    private, public = folder / f"{keys.name}.key", folder / f"{keys.name}.pub"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, mode, text in (
            (private, 0o600, _private_text(keys)),
            (public, 0o644, public_part(keys).line + "\n"),
        ):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(descriptor, "w") as file:
                file.write(text)
    except FileExistsError as error:
        raise ConfigError(
            f"{error.filename} is there already: a key is never replaced in place; choose another "
            "name, or remove the file yourself"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename}: {error.strerror}") from None
    return private, public


def read_each(files: str, number: int, option: str) -> list[Keys]:
    """
    Read a reader's key files, separated by commas: one for each of a number of cells, or one for all.

    Raises:
        ConfigError: If a file cannot be used, or their number does not fit.

    """
    named = [files] if Path(files).exists() else [one.strip() for one in files.split(",")]
    if len(named) not in (1, number):
        raise ConfigError(
            f"{option} names {len(named)} files, and there are {number} endpoints: "
            "give one file, or one for each endpoint"
        )
    read = [Keys.read(one).of_client() for one in named]
    return read if len(read) == number else read * number


def _private_text(keys: Keys) -> str:
    if keys.server:
        server = f"server = '{keys.server}'\n"
    else:
        server = "# A reader's key names the collector that it trusts:\n# server = '…'\n"
    return (
        f"# The private key of {keys.name}: whoever reads this file is {keys.name}.\n"
        f"name = '{keys.name}'\npublic = '{keys.public}'\nsecret = '{keys.secret}'\n"
        f"token = '{keys.token}'\n{server}"
    )


def _read(path: Path) -> Keys:
    text = read_guarded(path, secret=True)
    try:
        found = msgspec.toml.decode(text, type=Keys)
    except UNREADABLE as error:
        raise ConfigError(f"{path} is no key file: {_without_values(error)}") from None
    for field in ("public", "secret", *(["server"] if found.server else [])):
        if not is_public(getattr(found, field)):
            raise ConfigError(f"{path} is no key file: {field} must be 40 characters of Z85")
    if found.name and not is_name(found.name):
        raise ConfigError(f"{path} is no key file: {found.name!r:.80} is no name")
    import zmq

    # libzmq works it out of the secret; a pair that does not belong together would never connect.
    if zmq.curve_public(found.secret.encode()).decode() != found.public:
        raise ConfigError(f"{path}: public and secret do not belong together")
    return found if found.name else msgspec.structs.replace(found, name=path.stem)


def _without_values(error: BaseException) -> str:
    """Say what is wrong without repeating what stands in the file."""
    return str(error) if isinstance(error, msgspec.ValidationError) else "it is not TOML"


def read_guarded(path: Path, *, secret: bool) -> str:
    """
    Read a file that access depends on, if its permissions are right.

    A secret may be read by its owner alone, or by its group where it belongs to somebody else,
    as credentials that are mounted into a container do. What is not secret may be changed by
    its owner alone, who must be us or root.

    Raises:
        ConfigError: If it cannot be read, or its permissions are wrong; the text says the cure.

    """
    try:
        with open(path, opener=_at_once) as file:
            found = os.fstat(file.fileno())
            if trouble := _trouble(path, found, secret=secret):
                raise ConfigError(trouble)
            return file.read(1 << 20)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text") from None


def _at_once(path: str, flags: int) -> int:
    """Open a file; a pipe too, which would wait for its other end before it is refused."""
    return os.open(path, flags | os.O_NONBLOCK)


def _trouble(path: Path, found: os.stat_result, *, secret: bool) -> str:
    mode, is_ours = stat.S_IMODE(found.st_mode), found.st_uid == os.geteuid()
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is no file"
    if secret:
        allowed = 0o700 if is_ours else 0o740
        if mode & ~allowed:
            return f"others may read {path} (mode {mode:04o}): type chmod 600 {path}"
        return ""
    if not is_ours and found.st_uid != 0:
        return f"{path} belongs to another user: type chown {os.geteuid()} {path}"
    if mode & 0o022:
        return f"others may change {path} (mode {mode:04o}): type chmod 644 {path}"
    return ""


def public_of(text: str) -> Public:
    """
    Read a public key: the line of ``NAME.pub``, the 40 characters alone, or a file with either.

    Raises:
        ConfigError: If it is none of them.

    """
    shown = text.strip()
    with contextlib.suppress(OSError, ValueError):
        if Path(text).is_file():
            shown = Path(text).read_text(errors="replace")[:4_096].strip()
    words = shown.split()
    name = words.pop(0) if len(words) > 1 and is_name(words[0]) else ""
    if words and is_public(words[0]) and (len(words) == 1 or is_token_hash(words[1])):
        return Public(name, words[0], words[1] if len(words) > 1 else "")
    raise ConfigError(
        f"{text!r:.80} is neither a public key (40 characters; quote it: '…') nor a file that has one"
    )


def default_folder() -> Path:
    """Return where keys are, unless told otherwise."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(home) / "collector"


def is_same(one: Any, other: Any) -> bool:
    """Compare two texts in a time that does not depend on where they differ."""
    return secrets.compare_digest(str(one).encode(), str(other).encode())
