"""Lines for people and for programs, and what is not written twice."""

import io
import json
import logging
import sys

from shards.runtime.logs import Floods, Handler, JsonFormatter

KIND = ("shards.x", logging.INFO, "it flaps: %s")


def test_the_first_lines_of_a_kind_are_written_and_the_rest_counted() -> None:
    floods = Floods(burst=3, window_s=10.0)
    assert [floods.admits(KIND, 100.0 + n) for n in range(5)] == [True] * 3 + [False] * 2
    assert floods.admits(("shards.x", logging.INFO, "another"), 104.0)
    assert floods.over(109.9) == []
    assert floods.over(110.0) == [(KIND, 2)]
    assert floods.over(999.0) == []
    assert floods.admits(KIND, 1000.0)


def record(text: str, *args: object, at: float = 1_800_000_000.0) -> logging.LogRecord:
    made = logging.LogRecord("shards.x", logging.WARNING, "x.py", 1, text, args, None)
    made.created = at
    return made


def test_a_flood_is_told_with_its_number_once_it_has_gone_by() -> None:
    stream = io.StringIO()
    now = 100.0
    handler = Handler(Floods(burst=2, window_s=10.0), stream, clock=lambda: now)
    for n in range(7):
        # The clock is set back an hour with every line: floods are not measured by it.
        handler.emit(record("attempt %d failed", n, at=1_800_000_000.0 - 3600 * n))
    now = 111.0
    handler.emit(record("connected", at=1_700_000_000.0))
    assert stream.getvalue().splitlines() == [
        "attempt 0 failed",
        "attempt 1 failed",
        "5 more lines like this one were suppressed: attempt 6 failed",
        "connected",
    ]


def test_what_was_counted_is_told_at_the_end() -> None:
    stream = io.StringIO()
    handler = Handler(Floods(burst=1, window_s=10.0), stream)
    for _ in range(3):
        handler.emit(record("again"))
    handler.close()
    assert stream.getvalue().splitlines()[-1].startswith("2 more lines like this one")


def test_json_is_one_object_a_line_whatever_is_in_it() -> None:
    formatter = JsonFormatter("shard 3")
    line = formatter.format(record('a "quote"\nand %s', "é"))
    assert "\n" not in line
    assert json.loads(line) == {
        "ts": "2027-01-15T08:00:00.000Z",
        "level": "warning",
        "process": "shard 3",
        "pid": record("").process,
        "logger": "shards.x",
        "message": 'a "quote"\nand é',
    }


def test_json_carries_the_traceback() -> None:
    made = record("it broke")
    try:
        raise KeyError("x")
    except KeyError:
        made.exc_info = sys.exc_info()
    assert "KeyError: 'x'" in json.loads(JsonFormatter("x").format(made))["exception"]
