"""`collector keys`: make key files, and authorize or revoke keys."""

from pathlib import Path
from typing import Any, Final

import click

from collector.cli import options, value_types
from collector.cli.base import Group
from collector.cli.command import Command


@click.group(
    cls=Group,
    lazy={
        "new": ("keys", "Make a key pair."),
        "authorize": ("keys", "Let a key in."),
        "revoke": ("keys", "Let a key in no more."),
        "list": ("keys", "Show the authorized keys."),
    },
)
def keys() -> None:
    """
    Make keys, and say who may read and who may steer (docs/security.md).

    A running collector follows changes by itself, within a second.
    """


def _folder(command: Any) -> Any:
    return options.option(
        "--folder", metavar="DIR", type=click.Path(path_type=Path),
        help="Where keys are.  [default: collector in $XDG_CONFIG_HOME or ~/.config]",
    )(command)  # fmt: skip


def _file(command: Any) -> Any:
    return options.option(
        "--file", metavar="FILE", type=click.Path(path_type=Path),
        help="The authorized keys.  [default: authorized_keys.toml in the folder of keys]",
    )(command)  # fmt: skip


def _authorized(file: Path | None) -> Path:
    from collector.access import authorized_file, key_files

    return file or key_files.default_folder() / authorized_file.FILE


@click.command("keys_new", cls=Command)
@click.argument("name")
@_folder
@options.option(
    "--server-key", metavar="KEY|FILE",
    help="The public key of the collector that this one will ask; it goes into the key file.",
)  # fmt: skip
def new(*, name: str, folder: Path | None, server_key: str | None) -> None:
    """
    Make a key pair: NAME.key, which stays with its owner, and NAME.pub.

    The public line is printed: whoever runs the collector gives it to 'collector keys authorize'.
    """
    from collector.access import key_files

    server = key_files.public_of(server_key).public if server_key else ""
    made = key_files.make(name, server=server)
    private, public = key_files.write(made, folder or key_files.default_folder())
    click.echo(f"private: {private} (keep it), public: {public}", err=True)
    click.echo(key_files.public_part(made).line)


@click.command("keys_authorize", cls=Command)
@click.argument("public", metavar="PUBLIC|FILE...", nargs=-1, required=True)
@_file
@options.option("--name", metavar="NAME", help="What to call it.  [default: its own name]")
@options.option(
    "--role", type=value_types.Value(str, ["read", "operate"]), default="read", show_default=True,
    help="operate: admin commands as well, at --admin.",
)  # fmt: skip
@options.option(
    "--topic", "topics", multiple=True, metavar="PATTERN",
    help="What it may read: trades.*, book.INJ-USDT, book.INJ*, *.INJ-USDT; may be repeated.  "
    "[default: everything]",
)  # fmt: skip
@options.option(
    "--max-connections", type=value_types.Number(int, least=1), default=8, show_default=True,
    metavar="N", help="Connections at once; a Subscriber has two.",
)  # fmt: skip
def authorize(
    *, public: tuple[str, ...], file: Path | None, name: str | None, role: str,
    topics: tuple[str, ...], max_connections: int,
) -> None:  # fmt: skip
    """
    Let a key in.

    PUBLIC is the line that 'collector keys new' printed, or the file NAME.pub.
    """
    from collector.access import authorized_file, key_files

    path = _authorized(file)
    key = authorized_file.of_public(
        key_files.public_of(" ".join(public)),
        name=name or "",
        role=role,
        topics=topics or ("*",),
        max_connections=max_connections,
    )
    authorized_file.add(path, key)
    click.echo(f"{path}: {_said(key)}")


@click.command("keys_revoke", cls=Command)
@click.argument("name")
@_file
def revoke(*, name: str, file: Path | None) -> None:
    """Let a key in no more; its connections end within a second."""
    from collector.access import authorized_file

    path = _authorized(file)
    authorized_file.remove(path, name)
    click.echo(f"{path}: {name} was revoked")


@click.command("keys_list", cls=Command)
@_file
@options.json("Print one JSON array.")
def list(*, file: Path | None, as_json: bool) -> None:
    """Show the authorized keys, and what each may do."""
    from collector.access import authorized_file

    found = authorized_file.read(_authorized(file)).keys
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(found).decode())
        return
    for key in found:
        click.echo(_said(key))


_TOKEN: Final = "; it has a token for HTTP"


def _said(key: Any) -> str:
    topics = "everything" if key.topics == ("*",) else " ".join(key.topics)
    steers = "reads and steers" if key.role == "operate" else "reads"
    token = _TOKEN if key.token else ""
    return f"{key.name}  {key.public}  {steers}: {topics}; up to {key.max_connections} connections{token}"
