"""Run drills by hand: ``python -m tests.system.drill [--short] [--minutes N] [NAME …]``."""

import sys

import click

from tests.system.drill.registry import Drill, load, perform


@click.command()
@click.option("--short", is_flag=True, help="Quick: the simulator for the node where it can be.")
@click.option(
    "--minutes", type=float, help="How long A2 and A2N watch that nothing flaps.  [default: 10]"
)
@click.option("--all", "everything", is_flag=True, help="Run every drill.")
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...], short: bool, minutes: float | None, everything: bool) -> None:
    """Bring faults about, and print what was seen, said and healed. Without a name: list them."""
    drills = load()
    if not names and not everything:
        for found in drills.values():
            click.echo(f"{found.name:4} {found.title}")
        return
    unknown = [name for name in names if name.upper() not in drills]
    if unknown:
        raise click.UsageError(f"no drill {', '.join(unknown)}; there are {', '.join(drills)}")
    chosen = [drills[name.upper()] for name in names] or list(drills.values())
    failed = [found.name for found in chosen if not _run(found, short, minutes)]
    if failed:
        click.echo(f"failed: {', '.join(failed)}", err=True)
        sys.exit(4)


def _run(found: Drill, short: bool, minutes: float | None) -> bool:
    click.echo(f"\n{found.name}: {found.title}")
    try:
        click.echo(perform(found, short=short, minutes=minutes).table())
    except AssertionError as error:
        click.echo(f"FAILED {error}")
        return False
    return True


if __name__ == "__main__":
    main()
