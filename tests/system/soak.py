"""
A soak: a real node, a real collector, random faults, and the verifier's word at the end.

``python -m tests.system.soak --minutes 10 --seed 1``. Ends with 0 only if the verifier found
every trade once, every book equal and no block missing, and the collector recovered from every
fault; with 4 otherwise.
"""

import contextlib
import itertools
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click
import msgspec

from collector.client.requests import RequestClient
from collector.verify.findings import Findings
from tests.system.faults import FAULTS, Fault, Outcome, Watch, measure
from tests.system.prometheus import is_installed, prometheus, report
from tests.system.rig import Rig

_READY_S = 60.0
_HEAL_S = 90.0


class Result(msgspec.Struct):
    """What a soak found."""

    findings: Findings
    outcomes: list[Outcome]
    scraped: bool = True
    """Whether Prometheus saw each fault, and no counter went backwards."""
    scrapes: str = ""

    @property
    def passed(self) -> bool:
        healed = all(outcome.healed for outcome in self.outcomes)
        return self.findings.equal and healed and self.scraped


def soak(
    folder: Path,
    *,
    seconds: float,
    seed: int,
    every_s: float = 15.0,
    faults: Sequence[Fault] = FAULTS,
    books_every: int = 4,
    scraped: bool = False,
    rounds: int | None = None,
) -> Result:
    """Run one soak, of so many rounds of the faults at most; what was said stays in the folder."""
    rng = random.Random(seed)
    with (
        Rig(folder) as rig,
        RequestClient(rig.requests) as requests,
        prometheus(folder, rig.http) if scraped else contextlib.nullcontext() as server,
    ):
        began_at = time.time()
        watch = Watch(requests)
        watch.until_whole(within_s=_READY_S)
        # Far longer than needed: it is stopped before.
        verifier = rig.verify(duration_s=seconds * 10 + 600, books_every=books_every)
        outcomes = _inject(rig, watch, _rounds(faults, rng, rounds), rng, seconds, every_s)
        rig.ws.heal()
        rig.rpc.heal()
        watch.until_whole(within_s=_HEAL_S)
        findings = msgspec.convert(rig.verdict(verifier), Findings)
        if server is None:
            return Result(findings, outcomes)
        return Result(findings, outcomes, *report(server, outcomes, began_at))


def _inject(
    rig: Rig,
    watch: Watch,
    rounds: Iterator[Fault],
    rng: random.Random,
    seconds: float,
    every_s: float,
) -> list[Outcome]:
    """Let something go wrong every so often, until the time or the rounds are over."""
    outcomes: list[Outcome] = []
    end = time.monotonic() + seconds
    next_at = time.monotonic() + min(every_s, 5.0)
    for fault in rounds:
        if next_at >= end:
            return outcomes
        time.sleep(max(0.0, next_at - time.monotonic()))
        next_at = time.monotonic() + every_s
        began_at = time.time()
        outcome = measure(fault, rig, watch, rng, heal_within_s=_HEAL_S)
        outcome.began_at, outcome.ended_at = began_at, time.time()
        outcomes.append(outcome)
        _say(
            f"{time.strftime('%H:%M:%S', time.gmtime())} height {outcome.height:>5} "
            f"{fault.name:<18} seen {_seconds(outcome.detect_s):>6}  whole {_seconds(outcome.heal_s):>6}"
            f"{'' if outcome.healed else '  NOT HEALED'}"
        )
    return outcomes


def _rounds(faults: Sequence[Fault], rng: random.Random, count: int | None) -> Iterator[Fault]:
    """All faults in random order, then all again; for ever, if they are not counted."""
    for _ in itertools.count() if count is None else range(count):
        yield from rng.sample(list(faults), len(faults))


def table(outcomes: Sequence[Outcome]) -> str:
    """Lay out how long each fault took to be seen and to be healed."""
    lines = [f"{'fault':<20}{'count':>6}{'detect p50':>12}{'max':>8}{'heal p50':>12}{'max':>8}"]
    for name in dict.fromkeys(outcome.name for outcome in outcomes):
        rows = [outcome for outcome in outcomes if outcome.name == name]
        cells = f"{name:<20}{len(rows):>6}"
        for values in ([r.detect_s for r in rows], [r.heal_s for r in rows]):
            found = [value for value in values if value is not None]
            p50, most = (statistics.median(found), max(found)) if found else (None, None)
            cells += f"{_seconds(p50):>12}{_seconds(most):>8}"
        failed = sum(not row.healed for row in rows)
        lines.append(cells + (f"  {failed} NOT HEALED" if failed else ""))
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _say(line: str) -> None:
    click.echo(line, err=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="How long faults are injected.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same faults.")
@click.option("--every", default=15.0, show_default=True, help="Seconds from fault to fault.")
@click.option("--fault", "names", multiple=True, help="Only this one; may be repeated.")
@click.option("--prometheus", "scraped", is_flag=True, help="Let a real one scrape.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def main(
    *,
    minutes: float,
    seed: int,
    every: float,
    names: tuple[str, ...],
    scraped: bool,
    as_json: bool,
) -> None:
    """Let a collector run through faults, and check that it lost nothing."""
    signal.signal(signal.SIGTERM, _interrupt)
    faults = [fault for fault in FAULTS if not names or fault.name in names]
    if not faults:
        raise click.UsageError(f"the faults are {', '.join(f.name for f in FAULTS)}")
    if scraped and not is_installed():
        raise click.UsageError("--prometheus needs one (Debian: apt-get install prometheus)")
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    _say(f"logs, configuration and capture: {folder}")
    result = soak(
        folder,
        seconds=minutes * 60,
        seed=seed,
        every_s=every,
        faults=faults,
        scraped=scraped,
    )
    if as_json:
        document: dict[str, Any] = {"passed": result.passed} | msgspec.to_builtins(result)
        click.echo(msgspec.json.encode(document).decode())
    else:
        click.echo(f"{result.findings.table()}\n\n{table(result.outcomes)}\n{result.scrapes}")
    sys.exit(0 if result.passed else 4)


if __name__ == "__main__":
    main()
