"""The bounds of modules and folders: a module has one idea, and a folder can be read at a glance."""

import ast
from collections import Counter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PRODUCT: Final = [path for name in ("collector", "shards") for path in (ROOT / name).rglob("*.py")]
LINES: Final = 400
FILES: Final = 30
FULLER: Final = {"collector/cli": "a file for each command"}
LONGER: Final = {
    "collector/client/topic_sync.py": "one state machine; each part of it would need the others",
}
"""The modules that a split would make harder to read, each with the reason."""
LOOSE: Final = {
    "collector": {"__init__.py", "__main__.py"},
    "shards": {"__init__.py", "worker.py", "push.py", "settling.py", "control_client.py"},
}
"""The only files that are in no folder of their package."""


def test_no_module_is_too_long() -> None:
    lines = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in PRODUCT}
    assert {name for name, count in lines.items() if count > LINES} == set(LONGER), (
        "split it by its ideas, or say here why not"
    )


def test_no_folder_is_too_full() -> None:
    files = Counter(str(path.parent.relative_to(ROOT)) for path in PRODUCT)
    assert {name for name, count in files.items() if count > FILES} == set(FULLER)


def test_no_file_is_loose() -> None:
    for name, expected in LOOSE.items():
        assert {path.name for path in (ROOT / name).glob("*.py")} == expected


def test_every_folder_says_what_it_holds() -> None:
    for folder in {path.parent for path in PRODUCT}:
        text = (folder / "__init__.py").read_text()
        assert text.startswith('"""'), f"{folder / '__init__.py'} needs a docstring"


def test_no_error_is_raised_where_python_would_put_it_into_a_group() -> None:
    """Before 3.11.4, and Debian 12 has 3.11.2, that becomes of what an ``except*`` raises."""
    found = [
        f"{path.relative_to(ROOT)}:{inner.lineno}"
        for path in PRODUCT
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.TryStar)
        for handler in node.handlers
        for inner in ast.walk(handler)
        if isinstance(inner, ast.Raise) and inner.exc is not None
    ]
    assert not found, "use shards.runtime.groups.alone"
