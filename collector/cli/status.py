"""`collector status`: the state of a running collector, once or every second."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from collector.cli import options
from collector.cli.command import Command
from collector.cli.query import ANSWER_S, ask
from shards.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collector.client.requests import RequestClient


@click.command(cls=Command)
@options.connect()
@options.json("Print the whole summary as one JSON object.")
@options.option("--watch", is_flag=True, help="Refresh every second until Ctrl-C.")
def status(*, connect: str, as_json: bool, watch: bool) -> None:
    """Show the state of a running collector: coverage, blocks, gaps, latency, processes."""
    from collector.client.requests import RequestClient
    from collector.settings.parts import requests_endpoint

    with RequestClient(requests_endpoint(connect)) as client:
        first = _Answer(ask(client, "status"))
        if not watch:
            click.echo(first.json if as_json else first.lines())
            return
        with contextlib.suppress(KeyboardInterrupt):
            _watch(client, first, as_json=as_json)


class _Answer:
    """A summary as received."""

    def __init__(self, found: dict[str, Any]) -> None:
        from collector.client.summary import read_summary

        self.json = json.dumps(found)
        """The complete answer, including fields that this release does not know."""
        try:
            self._summary = read_summary({"status": found})
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.published = self._summary.frames.published

    def lines(self, rate: float = 0.0) -> str:
        """Format it for people; ``rate`` is frames per second."""
        from collector.tui.summary_text import block_lines

        return "\n".join(block_lines(self._summary, rate)[1:])


def _watch(client: "RequestClient", answer: _Answer, *, as_json: bool) -> None:
    """Show it every second: redrawn in place in a terminal, consecutively elsewhere."""
    with contextlib.ExitStack() as stack:
        show = _plain if as_json or not sys.stdout.isatty() else stack.enter_context(_screen())
        at = time.monotonic()
        text = answer.json if as_json else answer.lines()
        while True:
            show(text)
            time.sleep(1.0)
            try:
                newer = _Answer(client.ask("status", within_s=ANSWER_S)["status"])
            except TimeoutError as error:
                # Keep watching: to see it fail and come back is the purpose.
                text = json.dumps({"error": str(error)}) if as_json else str(error)
                continue
            now = time.monotonic()
            rate = max(0, newer.published - answer.published) / (now - at)
            at, answer = now, newer
            text = answer.json if as_json else answer.lines(rate)


def _plain(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


@contextlib.contextmanager
def _screen() -> Iterator[Callable[[str], None]]:
    """Draw over the previous picture."""
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda text: live.update(Text(text), refresh=True)
