"""What the log says of a door at its cap: one warning, and one line when it has room."""

import pytest

from collector.access.capacity_log import Capacity

MOST = 16


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    said = [(one.levelname, one.getMessage()) for one in caplog.records]
    caplog.clear()
    return said


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


def test_one_warning_while_a_door_is_full(caplog: pytest.LogCaptureFixture) -> None:
    capacity = Capacity(MOST, has_keys=False, by_descriptors=False)
    for second in range(100):
        capacity.refused("frames", float(second))
        # A reader leaves, and one that tries all the time takes its place.
        capacity.look({"frames": MOST - 1}, second + 0.5)
    assert lines(caplog) == [
        (
            "WARNING",
            "all 16 connections for frames are in use: no more subscribers may connect; "
            "raise max_connections of [access]",
        )
    ]
    capacity.look({"frames": MOST}, 200.0)
    assert not lines(caplog)
    capacity.look({"frames": MOST - 1}, 201.0)
    capacity.look({}, 202.0)
    assert lines(caplog) == [
        ("INFO", "there is room for subscribers again; 100 connections were refused")
    ]
    capacity.refused("frames", 203.0)
    assert [level for level, _ in lines(caplog)] == ["WARNING"]


def test_each_door_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    capacity = Capacity(MOST, has_keys=True, by_descriptors=True)
    capacity.refused("frames", 0.0)
    capacity.refused("requests", 1.0)
    (_, frames), (_, requests) = lines(caplog)
    assert frames == (
        "all 16 connections for frames are in use: no more subscribers may connect, unless one "
        "that has sent nothing makes room; raise the limit of open files (ulimit -n)"
    )
    assert "for requests are in use: no more clients may connect" in requests
    capacity.look({"frames": 0, "requests": MOST}, 10.0)
    assert [text for _, text in lines(caplog)] == [
        "there is room for subscribers again; 1 connection was refused"
    ]
