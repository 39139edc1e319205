"""
Which tests are run, and how several workers share them (`pytest -n auto`).

Proofs in full (the mark `nightly`) are left out without `--nightly`; each has a short form.
Five or six workers on two cores, since most tests wait for something. A module's tests stay together, and so do
all that ask the one devnet (the fixture `node`), so that nothing is booted twice. What measures
(the mark `alone`) is run when all others are done, by the one worker that is left.
"""

import faulthandler
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests import ahead

ALONE: Final = "alone"
NODE: Final = "node"
_IN_FULL_S: Final = 3 * 3_600.0
_FIRST: Final = (
    "tests/system/",
    "tests/collector/devnet/",
    "tests/simulator/",
    # Its image is made meanwhile.
    "tests/system/test_container.py",
    "tests/collector/web/",
    "tests/collector/cli/",
    "tests/collector/",
)
"""
Where the long modules are: one that began last would keep all workers waiting. The rest is short.

The longest name that fits a test counts.
"""


def workers() -> int:
    """Return how many workers `-n auto` is: the quick tests wait more than the others."""
    on_two_cores = 6 if "SHORT_SEARCHES" in os.environ else 5
    return on_two_cores * (os.cpu_count() or 1) // 2


def group(item: pytest.Item) -> str:
    """Name the group of a test; without one, it is its module's."""
    if item.get_closest_marker(ALONE):
        return ALONE
    if asks_the_node(item):
        return NODE
    # Each searches for a while by itself: no worker is to have them all.
    return item.nodeid if item.nodeid.startswith("tests/fuzz/") else ""


def asks_the_node(item: pytest.Item) -> bool:
    """Say whether a test asks the one devnet: by its fixture, or by a parameter of that name."""
    given = getattr(item, "callspec", None)
    parameters = given.params.values() if given is not None else ()
    return NODE in getattr(item, "fixturenames", ()) or NODE in parameters


def arrange(items: list[pytest.Item], groups: Mapping[str, str]) -> None:
    """Bring tests into the order in which they are handed out."""

    def place(item: pytest.Item) -> int:
        name = groups.get(item.nodeid)
        if name in (NODE, ALONE):
            return -1 if name == NODE else len(_FIRST) + 1
        rooms = [(len(room), n) for n, room in enumerate(_FIRST) if item.nodeid.startswith(room)]
        return max(rooms)[1] if rooms else len(_FIRST)

    items.sort(key=place)


def _groups_file(run: str) -> Path:
    """Where the first worker of a run leaves the groups: only it has seen the tests themselves."""
    return Path(tempfile.gettempdir()) / f"groups-{run}.json"


class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    """Hands out groups in their order, and the last one to a worker that is alone."""

    _groups: Mapping[str, str] = MappingProxyType({})

    def schedule(self) -> None:
        """Begin, once all workers have said which tests there are."""
        run = self.nodes[0].workerinput["testrunuid"]
        file = _groups_file(run)
        if file.exists():
            self._groups = json.loads(file.read_text())
            file.unlink()
        super().schedule()
        ahead.begin(run, self.collection or ())

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid) or nodeid.partition("::")[0]

    def _reschedule(self, node: WorkerController) -> None:
        if self._wants_to_be_alone():
            if not node.shutting_down and any(not n.shutting_down for n in self._others(node)):
                node.shutdown()
            return
        # It begins its last test once it knows what comes after, so this is soon enough.
        if not self.workqueue or self._pending_of(self.assigned_work[node]) <= 1:
            super()._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if not self._wants_to_be_alone():
            super()._assign_work_unit(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """Take a worker out; another one may be alone then."""
        crashed: str | None = super().remove_node(node)
        for left in self.nodes:
            self._reschedule(left)
        return crashed

    def _wants_to_be_alone(self) -> bool:
        return len(self.nodes) > 1 and list(self.workqueue) == [ALONE]

    def _others(self, node: WorkerController) -> Sequence[WorkerController]:
        return [other for other in self.nodes if other is not node]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Say how many workers `-n auto` is."""
    return workers()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Share the tests as described above."""
    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--nightly`."""
    parser.addoption("--nightly", action="store_true", help="run the proofs in full as well")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what is not run."""
    return None if config.option.nightly else "without the proofs in full: --nightly runs them too"


def allow_hours() -> None:
    """Let the running test take hours before it counts as stuck."""
    faulthandler.cancel_dump_traceback_later()
    faulthandler.dump_traceback_later(_IN_FULL_S, exit=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give a proof in full hours, where other tests are taken for stuck after some minutes."""
    if item.get_closest_marker("nightly"):
        allow_hours()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is for the night, and order what a worker has collected."""
    if not config.option.nightly:
        left_out = [item for item in items if item.get_closest_marker("nightly")]
        items[:] = [item for item in items if item not in left_out]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
    if (of_worker := getattr(config, "workerinput", None)) is not None:
        groups = {item.nodeid: name for item in items if (name := group(item))}
        arrange(items, groups)
        if of_worker["workerid"] == "gw0":
            _groups_file(of_worker["testrunuid"]).write_text(json.dumps(groups))
