"""
A guard against slow growth of cost that is no stopwatch: ``python -m bench.guard``.

Three counts for each part of `bench.guarded`, per update, the same on a busy machine as on
a quiet one. A part that costs a tenth more than `guard.toml` says fails. ``--write`` puts
today's counts there; do that with a reason, in the commit that gives it.

===============  ==================================  ====================================
count            by                                  sees
===============  ==================================  ====================================
instructions     valgrind's callgrind, where it is   everything, C code included
opcodes          the interpreter's own tracing       Python code, always available
blocks           `sys.getallocatedblocks`            objects that stay alive
===============  ==================================  ====================================
"""

import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click
import msgspec

from bench import results
from bench.guarded import Part, parts

BUDGETS: Final = Path(__file__).with_suffix(".toml")
TOLERATED: Final = 1.10
PYTHON: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
_ROOT: Final = Path(__file__).parents[1]
_TOTAL: Final = re.compile(rb"^totals: (\d+)", re.MULTILINE)

Counts = dict[str, float]


def instructions() -> Counts:
    """Count machine instructions under callgrind; valgrind must be installed."""
    made = list(parts())
    counted = between_cuts("bench.guarded", len(made))
    return {part.name: round(n / part.per) for part, n in zip(made, counted, strict=True)}


def between_cuts(module: str, number: int) -> list[int]:
    """Run a program under callgrind, cut at its calls of getloadavg; count the works in between."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *("valgrind", "--tool=callgrind", "--dump-before=getloadavg", "-q"),
                f"--callgrind-out-file={folder}/counted",
                *(sys.executable, "-m", module),
            ],
            env=os.environ | {"PYTHONHASHSEED": "0"},
            cwd=_ROOT,
            check=True,
        )
        counted = []
        # Each work lies between two cuts: dumps 2, 4, 6, …
        for cut in range(2, 2 * number + 1, 2):
            dump = Path(folder, f"counted.{cut}").read_bytes()
            found = _TOTAL.search(dump)
            assert found, dump[:200]
            counted.append(int(found[1]))
    return counted


def has_callgrind() -> bool:
    """Return whether `instructions` can be counted here."""
    return shutil.which("valgrind") is not None


def opcodes() -> Counts:
    """Count the interpreter's instructions."""
    return {part.name: round(_opcodes_of(part) / part.per, 1) for part in parts()}


def _opcodes_of(part: Part) -> int:
    work = part.fresh()
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def blocks() -> Counts:
    """Count the memory blocks that the results hold."""
    return {part.name: round(_blocks_of(part) / part.per, 2) for part in parts()}


def _blocks_of(part: Part) -> int:
    part.fresh()()
    work = part.fresh()
    gc.collect()
    gc.disable()
    try:
        before = sys.getallocatedblocks()
        kept = work()
        count = sys.getallocatedblocks() - before
        del kept
    finally:
        gc.enable()
    return count


COUNTS: Final[dict[str, Callable[[], Counts]]] = {
    "instructions": instructions,
    "opcodes": opcodes,
    "blocks": blocks,
}


def budgets() -> dict[str, dict[str, Counts]]:
    """Read the budgets: by Python version, count and part."""
    return msgspec.toml.decode(BUDGETS.read_bytes(), type=dict[str, dict[str, Counts]])


def exceeded(count: str, counted: Counts) -> list[str]:
    """Return the parts that exceed their budget; none if there is no budget for this Python."""
    allowed = budgets().get(PYTHON, {}).get(count, {})
    return [
        f"{part}: {cost:g} {count} per update, budget {allowed[part]:g} (+{cost / allowed[part] - 1:.0%})"
        for part, cost in counted.items()
        if part in allowed and cost > allowed[part] * TOLERATED + 0.05
    ]


@click.command()
@click.option("--write", is_flag=True, help="Make today's counts the budget.")
def main(write: bool) -> None:
    """Count, compare, and end with 1 if a part costs a tenth more than its budget."""
    known = budgets() if BUDGETS.exists() else {}
    rows, found = [], dict(known.get(PYTHON, {}))
    too_much: list[str] = []
    for name, count in COUNTS.items():
        if name == "instructions" and not has_callgrind():
            print("no valgrind: instructions are not counted")
            continue
        counted = count()
        too_much += exceeded(name, counted) if known else []
        for part, cost in counted.items():
            budget = found.get(name, {}).get(part)
            rows.append((name, part, f"{cost:g}", f"{budget:g}" if budget else "-"))
        found[name] = counted
    print(results.table(("count", "part", "per update", "budget"), rows))
    if write:
        BUDGETS.write_bytes(msgspec.toml.encode(known | {PYTHON: found}))
    elif too_much:
        raise SystemExit("\n".join(too_much))


if __name__ == "__main__":
    main()
