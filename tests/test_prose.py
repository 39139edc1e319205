"""Phrases that read like a translation stay out of what people read: docs, docstrings, log lines."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    r"\b(is|are|be|was) had again\b|\bhad again\b": "replayed, or fetched again",
    r"\banew\b": "again",
    r"\bis let go\b|\bare let go\b|\blet go of\b|\blets? markets go\b": "dropped, removed, released",
    r"\bcannot be had\b|\bnot to be had\b|\bis to be had\b": "not available",
    r"\b[Nn]obody (can say|need|waits|hears|knows)\b": "name what happens instead",
    r"\btold to stop\b": "asked to stop",
    r"\bhow (it|things) stands?\b": "the state",
    r"\bbegan again\b": "restarted",
    r"\b(is|are|was|were) let in\b|\blets? (nobody|everybody|bob) in\b": "may connect, is authorized",
    r"\bworth what is within\b": "limited to the rights",
    r"\bdoes not take it\b|\bdisk takes\b": "is full or fails",
    r"\btaken up\b|\btakes up there\b": "resumed, continues",
    r"\b(all|what) there is to know\b": "name the thing",
    r"\bof which there\b|\bof which the\b": "split the sentence",
    r"\b[Ww]hat came (late|live|for|after)\b": "late facts, live data",
    r"\bwhoever (is|reaches|holds|sends|makes)\b": "name the user or the process",
}
"""Pattern → what to write instead."""
ROOMS = ("shards", "collector", "tests", "bench", "README.md", "CONTRIBUTING.md", "docs")


def tracked() -> list[str]:
    """Return the tracked files of the product's code and pages."""
    listed = subprocess.run(
        ["git", "ls-files", "--", *ROOMS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [path for path in listed.stdout.splitlines() if path.endswith((".py", ".md"))]
    return [path for path in paths if path != "tests/test_prose.py"]


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_phrases_that_read_like_a_translation_stay_out(pattern: str) -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in tracked()
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found, f"write {FORBIDDEN[pattern]!r} instead:\n" + "\n".join(found)
