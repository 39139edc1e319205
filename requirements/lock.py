"""
Write a lock for each Python: ``python requirements/lock.py``. Needs uv and packaging.

A lock names every package of the collector with all its extras, its version, and the hashes of
the wheels that Linux (x86-64, arm64) and macOS (arm64) may use; pip refuses anything else.
"""

import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

HERE: Final = Path(__file__).parent
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
EXTRAS: Final = ("archive", "devnet", "query", "tui", "web")
_PLATFORMS: Final = ("manylinux", "linux", "macosx")
_MACHINES: Final = ("x86_64", "aarch64", "arm64", "universal2")


def main() -> None:
    """Resolve and write them all."""
    for python in PYTHONS:
        lock = HERE / f"py{python.replace('.', '')}.txt"
        packages = _resolve(python)
        lock.write_text("\n".join(line for one in packages for line in _lines(one, python)) + "\n")


def _resolve(python: str) -> list[dict[str, Any]]:
    """Return the packages of a resolution, in the form of PEP 751."""
    extras = [part for extra in EXTRAS for part in ("--extra", extra)]
    form = ("--format", "pylock.toml", "--universal", "--python-version", python, "--no-header")
    command = ["uv", "pip", "compile", "--quiet", "pyproject.toml", *extras, *form]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True)
    packages: list[dict[str, Any]] = tomllib.loads(done.stdout)["packages"]
    return packages


def _lines(package: dict[str, Any], python: str) -> Iterator[str]:
    """Yield a package's lines of a requirements file; none for what only Windows needs."""
    marker = f" ; {package['marker']}" if "marker" in package else ""
    hashes = sorted(_hashes(package, python))
    if not hashes:
        return
    yield f"{package['name']}=={package['version']}{marker} \\"
    for number, one in enumerate(hashes, 1):
        yield f"    --hash=sha256:{one}" + (" \\" if number < len(hashes) else "")


def _hashes(package: dict[str, Any], python: str) -> list[str]:
    """Return the hashes of the wheels that fit; where there is none, of the source, if any."""
    wheels = package.get("wheels", [])
    fit = [one["hashes"]["sha256"] for one in wheels if _fits(_name(one), python)]
    return fit or [one["hashes"]["sha256"] for one in (package.get("sdist"),) if one]


def _name(file: dict[str, Any]) -> str:
    return str(file.get("name") or file.get("url") or file["path"]).rsplit("/", 1)[-1]


def _fits(wheel: str, python: str) -> bool:
    return any(_suits(tag, int(python.split(".")[1])) for tag in parse_wheel_filename(wheel)[3])


def _suits(tag: Tag, minor: int) -> bool:
    interpreter, abi, platform = tag.interpreter, tag.abi, tag.platform
    if platform != "any" and not (
        platform.startswith(_PLATFORMS)
        and platform.endswith(_MACHINES)
        and not (platform.startswith("macosx") and platform.endswith("x86_64"))
    ):
        return False
    if interpreter.startswith("py"):
        return interpreter in ("py3", f"py3{minor}")
    if abi == "abi3":
        return interpreter.startswith("cp3") and int(interpreter[3:]) <= minor
    return abi == f"cp3{minor}"


if __name__ == "__main__":
    main()
