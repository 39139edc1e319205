"""
The gain of several markets in one subscription: ``python -m bench.grouping``.

The default and the contract on chain-ws is one subscription per market, so that one market's
trouble does not affect others. Here the same pipeline receives the same blocks in larger groups.
Only the core is measured, without the socket, where each message costs as much again.
"""

import statistics
from typing import Final

import click

from bench import results
from bench.content import Content
from bench.rows_core import race, received

SIZES: Final = (1, 2, 5, 20)
_MARKETS: Final = 20


def measure(blocks: int, rounds: int) -> list[tuple[int, float, float, int, int]]:
    """Return for each size: µs per changed and per quiet market and block, and their bytes."""
    found: dict[float, tuple[list[float], list[int]]] = {}
    for touched in (1.0, 0.0):
        made = [
            Content(markets=_MARKETS, blocks=blocks, touched=touched, grouped=size)
            for size in SIZES
        ]
        times = race({str(n): received(content) for n, content in enumerate(made)}, rounds)
        found[touched] = (
            [statistics.median(seconds) * 1e6 / _MARKETS for seconds in times.values()],
            [sum(map(len, content.blocks[0])) // _MARKETS for content in made],
        )
    return list(zip(SIZES, found[1.0][0], found[0.0][0], found[1.0][1], found[0.0][1], strict=True))


@click.command()
@click.option("--rounds", default=25, show_default=True)
def main(rounds: int) -> None:
    """Measure and print."""
    rows = measure(64, rounds)
    head = ("markets a subscription", "µs, changed", "µs, quiet", "bytes, changed", "bytes, quiet")
    cells = [(n, f"{full:.2f}", f"{empty:.2f}", a, b) for n, full, empty, a, b in rows]
    print(results.table(head, cells))
    results.save("grouping", {"rows": rows})


if __name__ == "__main__":
    main()
