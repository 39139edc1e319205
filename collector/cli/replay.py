"""`collector replay`: publish an archive again, as if it were live."""

import signal
import threading
from pathlib import Path
from typing import Any, Final

import click

from collector.cli import options, value_types
from collector.cli.command import Command
from collector.settings import installed
from collector.settings.parts import DEFAULT_PUBLISH
from shards.protocol.channels import NAMES
from shards.protocol.errors import ConfigError

_CHANNELS: Final = tuple(name for name in (*NAMES, "gap") if name != "markets")


class _Speed(value_types.ParamType):
    """A speed: a factor, or ``max``."""

    name = "speed"

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> float:
        """Parse a number above 0, with or without an ``x``; ``max`` is 0."""
        text = str(value).strip().lower()
        if text == "max":
            return 0.0
        text = text.strip("x")
        try:
            number = float(text)
        except ValueError:
            number = 0.0
        if not 0 < number < 1e9:
            self.fail(f"must be a number above 0, or max, not {value!r}", param, ctx)
        return number


class _Place(value_types.ParamType):
    """A height or an instant."""

    name = "place"

    def convert(self, value: Any, param: Any, ctx: click.Context | None) -> tuple[int, int]:
        """Return the height and the instant in ns; the one not given is 0."""
        from collector.archive.reading.bounds import parse_instant

        if isinstance(value, tuple):
            return value[0], value[1]
        text = str(value).strip()
        if text.isdecimal():
            return int(text), 0
        try:
            return 0, parse_instant(text)
        except ValueError:
            self.fail(f"must be a height, or an instant like 2026-11-28T12:00, not {text!r}",
                      param, ctx)  # fmt: skip


@click.command(cls=Command)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@options.option(
    "--speed", type=_Speed(), default="1", show_default=True, metavar="1|N|max",
    help="Speed relative to real time; max: as fast as the slowest reader, once there is one.",
)  # fmt: skip
@options.option(
    "--from", "start", type=_Place(), metavar="HEIGHT|INSTANT",
    help="Begin here, with every book in its state there.  [default: the archive's start]",
)  # fmt: skip
@options.option(
    "--until", type=_Place(), metavar="HEIGHT|INSTANT",
    help="End after this height, or before this instant.  [default: the archive's end]",
)  # fmt: skip
@options.market("Symbol, ticker, or a glob of either; may be repeated.")
@options.channel("What to publish; may be repeated.", _CHANNELS, "all that are there")
@options.option(
    "--publish", multiple=True, default=(DEFAULT_PUBLISH,), show_default=True, metavar="ENDPOINT",
    type=value_types.Endpoint(), help="Where to publish; may be repeated.",
)  # fmt: skip
@options.door
def replay(
    *,
    directory: Path,
    speed: float,
    start: tuple[int, int] | None,
    until: tuple[int, int] | None,
    markets: tuple[str, ...],
    channels: tuple[str, ...],
    publish: tuple[str, ...],
    keys: str | None,
    authorized_keys: str | None,
    insecure: bool,
) -> None:
    """
    Publish an archive again: the same frames, topics and requests as when it was live.

    `tail`, `top`, the web page and every Subscriber read it like a collector. No frame is lost to
    a slow reader: the replay waits. It ends after the last frame.
    """
    installed.need("pyarrow", "archive")
    from collector.access import config as access_config, refusal
    from collector.archive.replay.events_of import CHANNELS
    from collector.archive.replay.replay import Replay, ReplayConfig

    access_config.check_keys(keys, authorized_keys)
    for endpoint in () if insecure else publish:
        if said := refusal.of_publisher(endpoint, "--publish", has_keys=bool(keys)):
            raise ConfigError(said)
    first, since = start or (0, 0)
    last, ends = until or (0, 0)
    is_bounded = until is not None and not ends
    config = ReplayConfig(
        root=directory,
        publish=publish,
        speed=speed,
        first=first,
        since=since,
        last=last if is_bounded else 1 << 62,
        until=ends or 1 << 62,
        markets=markets or ("*",),
        channels=channels or CHANNELS,
        access=access_config.of_publisher(
            publish, keys=keys, authorized_keys=authorized_keys, insecure=insecure
        ),
    )
    stop = threading.Event()
    one = Replay(config, stop)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Under nohup SIGHUP is ignored, and stays so.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: stop.set())
    click.echo(f"replaying {directory} at {' '.join(publish)}; Ctrl-C ends it", err=True)
    done = one.run()
    rate = done.frames / done.seconds if done.seconds else 0.0
    heights = f", heights {done.first} to {done.last}" if done.last >= done.first else ""
    click.echo(f"replayed {done.frames:,} frames{heights}, {rate:,.0f} frames/s", err=True)
