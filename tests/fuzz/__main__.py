"""Run a target under atheris: ``python -m tests.fuzz NAME [--seconds N | --runs N]``."""

import argparse
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Fuzz; ends with 0 when the time is over, with libFuzzer's code and the input on a fault."""
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    # What is not loaded yet gets its branches counted.
    with atheris.instrument_imports(include=["collector", "shards"]):
        from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", choices=TARGETS)
    bound = parser.add_mutually_exclusive_group()
    bound.add_argument("--seconds", type=int, default=0, help="0: no limit")
    bound.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--keep", action="store_true", help="add what is new to the kept inputs")
    asked = parser.parse_args()
    kept = CORPUS / asked.name
    with tempfile.TemporaryDirectory(prefix="fuzz-") as found:
        arguments = [
            sys.argv[0],
            f"-max_total_time={asked.seconds}",
            f"-runs={asked.runs}",
            f"-artifact_prefix={tempfile.gettempdir()}/fuzz-{asked.name}-",
            "-max_len=4096",
            "-timeout=10",
            "-print_final_stats=1",
            *([str(kept)] if asked.keep else [found, str(kept)]),
        ]
        atheris.Setup(arguments, TARGETS[asked.name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
