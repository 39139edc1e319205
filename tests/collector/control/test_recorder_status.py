"""The recorder's status is a file in the archive: whatever is in it, the coordinator goes on."""

from pathlib import Path

import pytest

from collector.control.recorder_status import STATUS, recorder_status


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 30_000,
        b'{"x":' + b"[" * 30_000,
        b'{"ts":' + b"9" * 400 + b"}",
        b'{"state":"\xff"}',
        b'{"state":7}',
    ],
    ids=["empty", "nesting", "nesting inside", "a huge number", "no text", "a wrong type"],
)
def test_whatever_is_in_the_file_it_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATUS).write_bytes(content)
    found = recorder_status(str(tmp_path))
    assert found is not None
    assert found.state == "starting"
