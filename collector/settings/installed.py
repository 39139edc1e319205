"""How this program was installed, and therefore which commands to suggest."""

import importlib.util
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from shards.protocol.errors import ConfigError

_DISTRIBUTION: Final = "injective-collector"
_PROGRAM: Final = "collector"


def advice(extra: str) -> str:
    """Return the command that installs an extra into this environment."""
    has_pip = importlib.util.find_spec("pip") is not None
    python = _relative(sys.executable)
    install = [python, "-m", "pip", "install"] if has_pip else ["uv", "pip", "install"]
    if not has_pip:
        install += ["--python", python]
    return " ".join([*map(shlex.quote, install), _requirement(extra)])


def missing(extra: str, modules: str) -> str:
    """Return a sentence about missing modules, with the command that installs them."""
    return f"{modules} not installed: {advice(extra)}"


def need(module: str, extra: str, wanted_by: str = "") -> None:
    """
    Check that an extra is installed, by one of its modules.

    Raises:
        ConfigError: If it is not; the text begins with what asks for it, and says how to install it.

    """
    if importlib.util.find_spec(module) is None:
        where = f"{wanted_by}: " if wanted_by else ""
        raise ConfigError(where + missing(extra, f"the extra {extra!r} is"))


def _requirement(extra: str) -> str:
    """Return our requirement with an extra, from where we were installed."""
    source = _source()
    folder = Path(unquote(urlsplit(source["url"]).path)) if "url" in source else None
    if folder is None:
        return f"'{_DISTRIBUTION}[{extra}]'"
    if "dir_info" not in source or not folder.is_dir():
        # A wheel, an archive, a repository; or a folder that no longer exists.
        where = source["url"] if "dir_info" not in source else "the folder of its source"
        return f"'{_DISTRIBUTION}[{extra}] @ {where}'"
    editable = "-e " if source["dir_info"].get("editable") else ""
    return f"{editable}{shlex.quote(f'{_relative(str(folder))}[{extra}]')}"


def _source() -> dict[str, Any]:
    """Return the installation's origin (PEP 610); empty for an index."""
    # The import takes 20 ms, which `--help` does not need.
    from importlib import metadata

    try:
        text = metadata.distribution(_DISTRIBUTION).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def command() -> str:
    """Return the command for this program in another terminal, in the same folder."""
    script = Path(sys.executable).parent / _PROGRAM
    if not os.access(script, os.X_OK):
        return f"{shlex.quote(_relative(sys.executable))} -m {_PROGRAM}"
    found = shutil.which(_PROGRAM)
    # An environment activated here is not active in another terminal.
    if found and Path(found).samefile(script) and "VIRTUAL_ENV" not in os.environ:
        return _PROGRAM
    return shlex.quote(_relative(str(script)))


def _relative(path: str) -> str:
    """Shorten a path if it is below the working directory."""
    try:
        short = Path(path).relative_to(Path.cwd())
    except (ValueError, OSError):
        return path
    return f"./{short}" if len(short.parts) == 1 and short.parts else str(short) or "."
