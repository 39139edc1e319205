"""`collector doctor`: is this machine, and is this network, fit to collect?"""

import json
from typing import Any, Final

import click

from collector.cli import options
from collector.cli.base import takes_colours
from collector.cli.command import Command
from collector.settings.config_file import File, read
from collector.settings.start_options import StartOptions
from shards.protocol.text import printable
from shards.runtime.exit_codes import EXIT_BELOW, EXIT_OK

_OF_START: Final = (
    *("network", "shards", "source", "publish", "http", "web", "record", "state"),
    *("keys", "authorized_keys", "tls_cert", "tls_key"),
)  # fmt: skip
_MARKS: Final = {"fine": ("fine", "green"), "note": ("note", "yellow"), "bad": ("BAD ", "red")}


@click.command(cls=Command)
@options.config
@options.of_start(_OF_START)
@options.json("Print one JSON object a line.")
def doctor(*, config: str | None, as_json: bool, **_: Any) -> None:
    """
    Look at what a collector needs here: the machine, the clock, the disks, every endpoint.

    Give it the options and the file of `start`. It changes nothing, and takes some seconds. One line for
    each thing: fine, a note, or what is wrong and what to do. Exit code 4 if anything is wrong.
    """
    from collector.doctor.examination import examine
    from shards.runtime import logs

    logs.configure("doctor", level="ERROR", form="text")
    file = read(config) if config else File()
    given = options.given(click.get_current_context())
    told = {name: value for name, value in file.options.items() if name in _OF_START}
    told |= {name: value for name, value in given.items() if name in _OF_START}
    wrong = 0
    for finding in examine(StartOptions(**told), file):
        wrong += finding.verdict == "bad"
        if as_json:
            row = {"what": finding.what, "verdict": finding.verdict, "text": finding.text}
            click.echo(json.dumps(row))
        else:
            verdict, colour = _MARKS[finding.verdict]
            text = "\n".join(map(printable, finding.text.split("\n")))
            shown = click.style(verdict, fg=colour) if takes_colours() else verdict
            click.echo(f"{finding.what:<12} {shown}  {text}")
    click.get_current_context().exit(EXIT_BELOW if wrong else EXIT_OK)
