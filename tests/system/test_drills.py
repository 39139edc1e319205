"""Every drill in its short form: the fault is seen, said and healed."""

import pytest

from tests.system.drill.registry import Drill, load, perform

_SHORT = [found for found in load().values() if found.is_short]


def _parameter(found: Drill) -> object:
    marks = [pytest.mark.node] if found.needs_node else []
    return pytest.param(found, id=found.name, marks=marks)


@pytest.mark.parametrize("found", [_parameter(found) for found in _SHORT])
def test_a_fault_is_seen_said_and_healed(found: Drill) -> None:
    stage = perform(found, short=True)
    assert {"done", "healed"} <= {row.what for row in stage.rows}, stage.table()
