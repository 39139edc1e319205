"""The status block of `start` in terminals that cannot show it, or are closed meanwhile."""

import io
import os
import pty
import sys

import pytest

from collector.cli.progress import _Terminal


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"? 5 ?s"), ("latin-1", b"? 5 \xb5s")])
def test_what_a_terminal_cannot_show_is_replaced(
    monkeypatch: pytest.MonkeyPatch, encoding: str, shown: bytes
) -> None:
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding))
    ours, theirs = pty.openpty()
    with _Terminal(theirs) as terminal:
        terminal.write("█ 5 µs")
        terminal.flush()
        assert os.read(ours, 100) == shown
    os.close(theirs)
    os.close(ours)


def test_a_terminal_that_is_closed_ends_nothing() -> None:
    ours, theirs = pty.openpty()
    terminal = _Terminal(theirs)
    os.close(ours)
    with pytest.raises(OSError, match="Input/output"):
        os.write(theirs, b"x")
    terminal.write("a line\n" * 10_000)
    terminal.flush()
    terminal.close()
    os.close(theirs)
