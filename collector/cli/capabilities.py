"""`collector capabilities`: which source gives which channel, and with what guarantee."""

from collections.abc import Callable
from typing import Final

import click

from collector.cli import options
from collector.cli.command import Command
from shards.protocol import channels

_NOTES: Final[tuple[tuple[str, Callable[[channels.Channel], bool]], ...]] = (
    ("by default", lambda channel: channel.is_default),
    ("a state: late joiners get the newest", lambda channel: channel.is_state),
)


@click.command(cls=Command)
@options.json("Print one JSON array.")
def capabilities(*, as_json: bool) -> None:
    """Show which source gives which channel, and with what guarantee."""
    from shards.adapters import registry

    if as_json:
        import json

        click.echo(json.dumps(registry.rows()))
        return
    head, *rows = registry.table()
    for name, topic, *cells in rows:
        notes = [text for text, holds in _NOTES if holds(channels.BY_NAME[name])]
        click.echo(f"{name}  ({', '.join([topic, *notes])})")
        for column, text in zip(head[2:], cells, strict=True):
            click.echo(f"  {column:<20}  {'not given' if text == '-' else text}")
