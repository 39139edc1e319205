"""What the project imports is what it declares: a tree that installs is one that runs."""

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT: Final = Path(__file__).parents[1]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS: Final = {"collector", "shards", "tests", "bench"}
EXTRA_OF: Final = {
    "collector/archive": "query",
    "collector/client/arrow_batches.py": "archive",
    "collector/cluster": "cluster",
    "collector/devnet": "devnet",
    "collector/tables": "archive",
    "collector/cli/archive.py": "query",
    "collector/verify/archive_check.py": "archive",
    "collector/verify/archived.py": "archive",
    "collector/tui": "tui",
    "collector/web": "web",
    "collector/http": "web",
    "collector/access/http_server.py": "web",
}
"""The folders that are used only where an extra is installed."""
NAMED: Final = {"websockets"}
"""What is used by its name alone: uvicorn is told to speak WebSocket with it."""


def _names(requirements: list[Any]) -> set[NormalizedName]:
    """Return the packages that requirements name, as the index spells them."""
    typed = (one for one in requirements if isinstance(one, str))
    return {canonicalize_name(Requirement(one).name) for one in typed}


def _declared(folder: str) -> set[NormalizedName]:
    """Return what may be imported in a folder: the product's own needs and what adds to them."""
    found = _names(PROJECT["project"]["dependencies"])
    extras, groups = PROJECT["project"]["optional-dependencies"], PROJECT["dependency-groups"]
    if folder in ("tests", "bench"):
        found |= _names([one for extra in extras.values() for one in extra])
        found |= _names(groups["tests"])
    if folder == "bench":
        found |= _names(groups["bench"]) | _names(groups["archive-peers"])
    if folder in EXTRA_OF:
        found |= _names(extras[EXTRA_OF[folder]])
    return found


def _folder(file: Path) -> str:
    path = file.relative_to(ROOT)
    if str(path) in EXTRA_OF:
        return str(path)
    room = "/".join(path.parts[:2])
    return room if room in EXTRA_OF else path.parts[0]


def _imported(file: Path) -> Iterator[tuple[int, str]]:
    """Yield line and top-level module of every import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name.split(".")[0]) for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield node.lineno, module.split(".")[0]
            case ast.Call(
                func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield node.lineno, module.split(".")[0]


@functools.cache
def _foreign() -> list[tuple[str, str, str, set[NormalizedName]]]:
    """Return folder, place, module and the packages that could bring it, of each foreign import."""
    providers = packages_distributions()
    found = []
    for top in sorted(OURS):
        for file in sorted((ROOT / top).rglob("*.py")):
            for line, module in _imported(file):
                if module not in OURS and module not in sys.stdlib_module_names:
                    brought = {canonicalize_name(name) for name in providers.get(module, [module])}
                    found.append(
                        (_folder(file), f"{file.relative_to(ROOT)}:{line}", module, brought)
                    )
    return found


@pytest.mark.parametrize("top", ["collector", "shards", "tests", "bench"])
def test_every_imported_package_is_declared(top: str) -> None:
    missing = [
        f"{place}: {module} (of {' or '.join(sorted(brought))})"
        for folder, place, module, brought in _foreign()
        if folder.split("/")[0] == top and not brought & _declared(folder)
    ]
    assert not missing, "imported and not declared in pyproject.toml:\n" + "\n".join(missing)


def test_every_declared_package_is_imported() -> None:
    product = {
        name
        for folder, _, _, brought in _foreign()
        if folder.split("/")[0] in ("collector", "shards")
        for name in brought
    }
    extras = PROJECT["project"]["optional-dependencies"]
    assert not _names(PROJECT["project"]["dependencies"]) - product
    wanted = {name for extra in EXTRA_OF.values() for name in _names(extras[extra])}
    assert not wanted - product - NAMED


@pytest.mark.parametrize("package", ["collector", "shards"])
def test_types_are_published(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_classifiers_name_the_pythons_that_are_tested() -> None:
    project = PROJECT["project"]
    assert project["requires-python"] == ">=3.11", "no upper bound: a newer Python may well do"
    versions = re.findall(r"Python :: (3\.\d+)$", "\n".join(project["classifiers"]), re.MULTILINE)
    locks = sorted((ROOT / "requirements").glob("py*.txt"))
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert [lock.stem for lock in locks] == [f"py{one.replace('.', '')}" for one in versions]


@pytest.mark.parametrize(
    "lock", sorted((ROOT / "requirements").glob("py*.txt")), ids=lambda lock: lock.stem
)
def test_the_locks_have_what_is_declared(lock: Path) -> None:
    found = {
        canonicalize_name(name): version
        for name, version in re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), re.MULTILINE)
    }
    extras = PROJECT["project"]["optional-dependencies"]
    ours = [one for extra in ("archive", "devnet", "query", "tui", "web") for one in extras[extra]]
    for requirement in map(Requirement, PROJECT["project"]["dependencies"] + ours):
        version = found.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name}: run python requirements/lock.py"
        assert requirement.specifier.contains(version), f"{requirement}, but {version} is locked"
