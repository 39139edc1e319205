"""`collector status`: how a running collector stands, once or every second."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from collector.cli import options
from collector.cli.asking import ANSWER_S, ask
from collector.cli.command import Command

if TYPE_CHECKING:
    from collector.client.requests import RequestClient


@click.command(cls=Command)
@options.connect()
@options.json("Print the whole summary as one JSON object.")
@options.option("--watch", is_flag=True, help="Show it anew every second until Ctrl-C.")
def status(*, connect: str, as_json: bool, watch: bool) -> None:
    """Say how a running collector stands: coverage, blocks, gaps, latency, processes."""
    from collector.client.requests import RequestClient
    from collector.settings.parts import requests_endpoint

    with RequestClient(requests_endpoint(connect)) as client:
        summary = ask(client, "status")
        if not watch:
            click.echo(json.dumps(summary) if as_json else _lines(summary, 0.0))
            return
        with contextlib.suppress(KeyboardInterrupt):
            _watch(client, summary, as_json=as_json)


def _watch(client: "RequestClient", summary: dict[str, Any], *, as_json: bool) -> None:
    """Show it every second: redrawn in place on a terminal, one after the other elsewhere."""
    with contextlib.ExitStack() as stack:
        show = _plain if as_json or not sys.stdout.isatty() else stack.enter_context(_screen())
        at, published = time.monotonic(), summary["frames"]["published"]
        text = json.dumps(summary) if as_json else _lines(summary, 0.0)
        while True:
            show(text)
            time.sleep(1.0)
            try:
                summary = client.ask("status", within_s=ANSWER_S)["status"]
            except TimeoutError as error:
                # It is watched to see such things, and to see it come back.
                text = json.dumps({"error": str(error)}) if as_json else str(error)
                continue
            now, new = time.monotonic(), summary["frames"]["published"]
            rate = max(0, new - published) / (now - at)
            at, published = now, new
            text = json.dumps(summary) if as_json else _lines(summary, rate)


def _lines(summary: dict[str, Any], rate: float) -> str:
    from collector.tui.summary_text import block_lines

    return "\n".join(block_lines(summary, rate)[1:])


def _plain(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


@contextlib.contextmanager
def _screen() -> Iterator[Callable[[str], None]]:
    """Draw where the last picture was."""
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda text: live.update(Text(text), refresh=True)
