"""`collector status`: the state of a running collector, once or every second."""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from collector.cli import options, query
from collector.cli.command import Command
from collector.cli.query import ANSWER_S, ask
from shards.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collector.client.requests import RequestClient
    from collector.client.summary import Summary


@click.command(cls=Command)
@options.connect(several=True)
@options.cluster
@options.json("Print the whole summary as one JSON object.")
@options.option("--watch", is_flag=True, help="Refresh every second until Ctrl-C.")
def status(*, connect: str, cluster: str | None, as_json: bool, watch: bool) -> None:
    """
    Show the state of a running collector: coverage, blocks, gaps, latency, processes.

    Several cells are shown beside each other.
    """
    from collector.client.requests import RequestClient
    from collector.settings.addresses import endpoints_of

    connect = query.cells_of(connect, cluster)
    if len(endpoints_of(connect)) > 1:
        with contextlib.suppress(KeyboardInterrupt):
            _cells(connect, as_json=as_json, watch=watch)
        return
    with RequestClient.of(connect) as client:
        first = _Answer(ask(client, "status"))
        if not watch:
            click.echo(first.json if as_json else first.lines())
            return
        with contextlib.suppress(KeyboardInterrupt):
            _watch(client, first, as_json=as_json)


def _cells(connect: str, *, as_json: bool, watch: bool) -> None:
    """Show several cells, once or every second."""
    from collector.tui.cells_text import cell_lines

    show: Callable[[str], None] = _plain
    with contextlib.ExitStack() as stack:
        if watch and not as_json and sys.stdout.isatty():
            show = stack.enter_context(_screen())
        while True:
            cells = query.each(connect, lambda client: ask(client, "status"))
            if as_json:
                show(json.dumps({at: _or_error(answer) for at, answer in cells}))
            else:
                show("\n".join(cell_lines(_read_all(cells))))
            if not watch:
                return
            time.sleep(1.0)


def _or_error(answer: Any) -> Any:
    return {"error": str(answer)} if isinstance(answer, ConfigError) else answer


def _read_all(cells: list[tuple[str, Any]]) -> "list[tuple[str, Summary | str]]":
    """Read the summaries of the cells that answered."""
    from collector.client.summary import read_summary

    rows: list[tuple[str, Summary | str]] = []
    for endpoint, answer in cells:
        try:
            failed = isinstance(answer, ConfigError)
            rows.append((endpoint, str(answer) if failed else read_summary({"status": answer})))
        except ValueError as error:
            rows.append((endpoint, str(error)))
    query.of_one_chain((at, one) for at, one in rows if not isinstance(one, str))
    return rows


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
    from collector.client.answers import part

    with contextlib.ExitStack() as stack:
        show = _plain if as_json or not sys.stdout.isatty() else stack.enter_context(_screen())
        at = time.monotonic()
        text = answer.json if as_json else answer.lines()
        while True:
            show(text)
            time.sleep(1.0)
            try:
                newer = _Answer(part(client.ask("status", within_s=ANSWER_S), "status"))
            except (TimeoutError, ValueError, ConfigError) as error:
                # Keep watching: to see it fail and come back is the purpose. A relay whose cell is
                # away refuses.
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

    # The cursor is hidden: it comes back however this ends.
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with Live(auto_refresh=False, vertical_overflow="crop") as live:
            yield lambda text: live.update(Text(text), refresh=True)
    finally:
        signal.signal(signal.SIGTERM, before)
