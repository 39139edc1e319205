"""
What measuring costs: ``python -m bench.telemetry``, on against off in one run.

Machine instructions under callgrind, the same on a busy machine as on a quiet one. Fails
where all records of latency and size together cost the hot path more than 3 %.
"""

import sys
from typing import Final

from bench.guard import between_cuts, has_callgrind
from bench.measured import BLOCKS, CUTS, SERIES, ways

LIMIT: Final = 0.03
IDLE_PER_S: Final = 6
"""Where a shard has no more batches a second all are timed; what that is of a core is another matter."""


def main() -> int:
    """Count, print, judge."""
    if not has_callgrind():
        print("no valgrind: instructions cannot be counted", file=sys.stderr)
        return 3
    counted = between_cuts("bench.measured", CUTS)
    with ways() as (_, made):
        updates = made.updates / len(made.blocks) * BLOCKS
    judged = []
    for series, on, off in zip(SERIES, counted[::2], counted[1::2], strict=True):
        share = on / off - 1.0
        print(
            f"batches of {series.name}: {on / updates:.0f} instructions an update from payload to "
            f"publication measured, {off / updates:.0f} not: {share:.2%}"
        )
        if not series.alone or series.every > 1:
            judged.append(share)
    idle = IDLE_PER_S * (counted[-2] - counted[-1]) / updates
    print(
        f"limit {LIMIT:.0%} but for the last, where it is {idle / 1e6:.1f} M instructions a second"
    )
    return 0 if max(judged) <= LIMIT else 4


if __name__ == "__main__":
    sys.exit(main())
