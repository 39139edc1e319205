"""
What measuring costs: ``python -m bench.telemetry``, on against off in one run.

Machine instructions under callgrind, the same on a busy machine as on a quiet one. Fails
where all records of latency and size together cost the hot path more than 3 %.
"""

import sys
from typing import Final

from bench.guard import between_cuts, has_callgrind
from bench.measured import CUTS, HALF, WARM, ways

LIMIT: Final = 0.03


def main() -> int:
    """Count, print, judge."""
    if not has_callgrind():
        print("no valgrind: instructions cannot be counted", file=sys.stderr)
        return 3
    counted = between_cuts("bench.measured", CUTS)
    with ways() as (_, made):
        updates = made.updates / len(made.blocks) * (HALF - WARM)
    shares = []
    for name, (on, off) in (("20 frames", counted[:2]), ("one frame", counted[2:])):
        shares.append(on / off - 1.0)
        print(
            f"batches of {name}: {on / updates:.0f} instructions an update from payload to "
            f"publication measured, {off / updates:.0f} not: {shares[-1]:.2%}"
        )
    print(f"limit {LIMIT:.0%}, for batches of 20; a batch of one is a shard with time to spare")
    return 0 if shares[0] <= LIMIT else 4


if __name__ == "__main__":
    sys.exit(main())
