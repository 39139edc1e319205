"""Run a target under atheris: ``python -m tests.fuzz NAME [--seconds N | --runs N]``."""

import argparse
import re
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
_MOST = 4_096
_MOST_OF = {
    "text": 256,
    "configuration": 512,
    "environment_names": 512,
    "archive_part": 16_384,
    # A longer one has more trades or levels, each of which is printed: 2,000 inputs a second.
    "frame": 1_024,
    "reply": 2_048,
}
"""Bytes of an input; less where nothing is gained by more."""


def main() -> None:
    """Fuzz; ends with 0 when the time is over, with libFuzzer's code and the input on a fault."""
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    # What is not loaded yet gets its branches counted.
    with atheris.instrument_imports(include=["collector", "shards"]):
        from tests.fuzz.targets import TARGETS, WORDS, mutator_of

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", choices=TARGETS)
    bound = parser.add_mutually_exclusive_group()
    bound.add_argument("--seconds", type=int, default=0, help="0: no limit")
    bound.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--keep", action="store_true", help="add what is new to the kept inputs")
    asked = parser.parse_args()
    kept = CORPUS / asked.name
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as found,
        tempfile.TemporaryDirectory(prefix="fuzz-") as new,
    ):
        words = Path(found, "words")
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS.get(asked.name, ())))
        arguments = [
            sys.argv[0],
            f"-max_total_time={asked.seconds}",
            f"-runs={asked.runs}",
            f"-artifact_prefix={tempfile.gettempdir()}/fuzz-{asked.name}-",
            f"-max_len={_MOST_OF.get(asked.name, _MOST)}",
            *([f"-dict={words}"] if WORDS.get(asked.name) else []),
            "-timeout=10",
            "-print_final_stats=1",
            *([str(kept)] if asked.keep else [new, str(kept)]),
        ]
        atheris.Setup(
            arguments,
            TARGETS[asked.name],
            # By its name: `Fuzz` puts the real one in its place.
            custom_mutator=mutator_of(asked.name, lambda data, most: atheris.Mutate(data, most)),
        )
        atheris.Fuzz()


def _escaped(word: str) -> str:
    """Write a word as libFuzzer's dictionaries have it."""
    return re.sub(r"[^\w .\[\]-]", lambda found: f"\\x{ord(found[0]):02x}", word, flags=re.ASCII)


if __name__ == "__main__":
    main()
