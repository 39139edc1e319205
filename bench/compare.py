"""
Compare two runs of the parts: ``python -m bench.compare OLD.json NEW.json``.

Each part's median is divided by that of the yardstick (bare msgspec) in the same session; these
ratios are compared.
"""

from pathlib import Path
from typing import Any, Final

import click
import msgspec

from bench import results

YARDSTICK: Final = "test_yardstick"


def ratios(path: Path) -> dict[str, float]:
    """Read a run: each part in units of the yardstick."""
    run: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    medians = {bench["name"]: bench["stats"]["median"] for bench in run["benchmarks"]}
    if YARDSTICK not in medians:
        raise click.ClickException(f"{path} has no {YARDSTICK}: run all of the pipeline's benches")
    return {name: median / medians[YARDSTICK] for name, median in medians.items()}


@click.command()
@click.argument("old", type=click.Path(exists=True, path_type=Path))
@click.argument("new", type=click.Path(exists=True, path_type=Path))
@click.option("--fail-above", type=float, help="End with 1 if a part costs so many times as much.")
def main(old: Path, new: Path, fail_above: float | None) -> None:
    """Print how each part has changed."""
    before, after = ratios(old), ratios(new)
    rows = [
        (name, f"{before[name]:.3f}", f"{after[name]:.3f}", f"{after[name] / before[name]:.2f}")
        for name in after
        if name in before
    ]
    print(results.table(("part", "before", "after", "after / before"), rows))
    worse = [
        name
        for name in after
        if name in before and after[name] / before[name] > (fail_above or 1e9)
    ]
    if worse:
        raise click.ClickException(f"more than {fail_above:g} times as dear: {', '.join(worse)}")


if __name__ == "__main__":
    main()
