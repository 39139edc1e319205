"""Find the node's program, and the environment it runs in."""

import fcntl
import os
import sys
from pathlib import Path

from collector.devnet.errors import DevnetError
from collector.settings import installed

_MISSING = "'collector devnet' needs the extra of that name"


def node_binary() -> Path:
    """
    Give the path of `injectived`, unpacked from its package at the first use.

    The program itself, not the package's `injectived` command: that is a wrapper, and signals
    sent to a wrapper's pid need not reach the node.

    Raises:
        DevnetError: If the package is missing, has nothing for this platform, or cannot be
            unpacked where it is installed.

    """
    try:
        import injective_core
    except ImportError as exc:
        raise DevnetError(f"{_MISSING} ({exc}): {installed.advice('devnet')}") from exc
    folder = Path(injective_core.__file__ or "").parent / "bin"
    try:
        # Two devnets that unpack at once would run each other's half-written file.
        with (folder / "injectived.tar.zst").open("rb") as archive:
            fcntl.flock(archive, fcntl.LOCK_EX)
            return Path(injective_core.get_binary_path()).resolve()
    except FileNotFoundError as exc:
        raise DevnetError(f"there is no injectived for {sys.platform}: {exc}") from exc
    except OSError as exc:
        raise DevnetError(
            f"injectived cannot be unpacked: {exc.strerror or exc}; it is unpacked once, where it is "
            f"installed: run 'collector devnet' as a user who may write to {folder}"
        ) from exc


def need_client() -> None:
    """
    Check that what signs and sends orders is installed.

    Raises:
        DevnetError: If it is not.

    """
    try:
        import Crypto  # noqa: F401
        import ecdsa  # noqa: F401
    except ImportError as exc:
        raise DevnetError(f"{_MISSING} ({exc}): {installed.advice('devnet')}") from exc


def node_environment(binary: Path, *, temporary: Path) -> dict[str, str]:
    """Let the program find the libraries that lie beside it, and keep its litter together."""
    variable = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
    others = os.environ.get(variable)
    path = f"{binary.parent}{os.pathsep}{others}" if others else str(binary.parent)
    # Every run of the program, however short, leaves an `injectiveapp…` folder there.
    # Collect garbage before it takes more: a devnet may run for days beside other things.
    bound = {"GOMEMLIMIT": os.environ.get("GOMEMLIMIT", "500MiB")}
    return {**os.environ, **bound, variable: path, "TMPDIR": str(temporary)}
