"""What systemd is told, on a real socket."""

import socket
from pathlib import Path

import pytest

from collector.client.summary import Markets, Summary
from collector.control.systemd import ServiceManager
from collector.settings.parts import AWAY_S

SUMMARY = Summary(markets=Markets(requested=280, live=279))


class Manager:
    """A listener in systemd's place, and a clock that we turn."""

    def __init__(self, address: str) -> None:
        self.now = 100.0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address[0] == "@" else address)
        self._socket.setblocking(False)
        self.told = ServiceManager({"NOTIFY_SOCKET": address}, lambda: self.now)

    def heard(self) -> list[str]:
        found: list[str] = []
        while True:
            try:
                found += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path):
    address = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}/notify"
    manager = Manager(address)
    yield manager
    manager.close()


def test_ready_is_said_once_and_the_status_when_it_changes(manager: Manager):
    manager.told.answered(SUMMARY)
    manager.told.answered(SUMMARY)
    manager.told.answered(Summary(markets=Markets(requested=280, live=280)))
    assert manager.heard() == [
        *("WATCHDOG=1", "READY=1", "STATUS=279 of 280 markets live"),
        "WATCHDOG=1",
        *("WATCHDOG=1", "STATUS=280 of 280 markets live"),
    ]


def test_the_watchdog_is_answered_only_while_the_aggregator_is_not_away_for_good(manager: Manager):
    manager.told.waiting()
    assert manager.heard() == []
    manager.told.answered(SUMMARY)
    manager.heard()
    manager.now += AWAY_S
    manager.told.waiting()
    assert manager.heard() == ["WATCHDOG=1"]
    manager.now += 0.1
    manager.told.waiting()
    assert manager.heard() == []
    manager.told.stopping()
    assert manager.heard() == ["STOPPING=1", "STATUS=draining"]


def test_a_manager_that_is_gone_ends_nothing(tmp_path: Path):
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).answered(SUMMARY)
    ServiceManager({"NOTIFY_SOCKET": ""}).answered(SUMMARY)
    ServiceManager({}).stopping()
