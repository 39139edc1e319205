"""The guard (bench.guard): no part may cost a tenth more than its budget."""

import pytest

from bench import guard
from tests.needs import VALGRIND


def _check(count: str) -> None:
    if guard.PYTHON not in guard.budgets():
        pytest.skip(f"guard.toml has no budgets for {guard.PYTHON}")
    assert not guard.exceeded(count, guard.COUNTS[count]())


@VALGRIND.required()
def test_instructions() -> None:
    """Machine instructions, C code included."""
    _check("instructions")


def test_opcodes() -> None:
    """The interpreter's instructions."""
    _check("opcodes")


def test_blocks() -> None:
    """Memory blocks that stay."""
    _check("blocks")


def test_a_budget_is_exceeded_by_more_than_a_tenth() -> None:
    """The guard's own arithmetic."""
    if guard.PYTHON not in guard.budgets():
        pytest.skip(f"guard.toml has no budgets for {guard.PYTHON}")
    allowed = guard.budgets()[guard.PYTHON]["opcodes"]
    assert not guard.exceeded("opcodes", {part: cost * 1.09 for part, cost in allowed.items()})
    dearer = {part: cost * 1.12 + 0.1 for part, cost in allowed.items()}
    assert len(guard.exceeded("opcodes", dearer)) == len(allowed)
