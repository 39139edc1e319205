"""Repair sealed files after a kill. Each holder of `files.sealing` does this first."""

import ctypes
import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Final

from collector.archive.storage import layout, manifest, removal
from collector.archive.storage.crash_points import reach
from collector.archive.storage.files import publish, sync_folder

log = logging.getLogger(__name__)

_AT_FDCWD: Final = -100
_EXCHANGE: Final = 2
_UNABLE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})
_ELSEWHERE: Final = frozenset({errno.EXDEV, errno.EBUSY})
"""What a folder on another disk, or one that is a mount itself, says to its exchange."""


def recover(root: Path) -> None:
    """
    Finish or undo an interrupted operation; the caller holds `files.sealing`.

    The manifest decides: a folder that it names is moved to its place; a file that a line removed is
    deleted; a file that no line names is moved to the quarantine.
    """
    removal.finish(root)
    lines = manifest.read(root)
    known = manifest.current(lines)
    _finish_swaps(root, known)
    removed = {path for line in lines for path in line.removed}
    for path in (*root.glob("*/date=*/*.parquet"), *root.glob(f"*/date=*/*{layout.PARTIAL}")):
        name = str(path.relative_to(root))
        if name in known:
            continue
        if name in removed:
            path.unlink()
            continue
        _set_aside(root, path)


def _set_aside(root: Path, path: Path) -> None:
    """Move a file to the quarantine; on a full disk one that is not whole makes room instead."""
    aside = root / layout.QUARANTINE / "__".join(path.relative_to(root).parts)
    try:
        aside.parent.mkdir(exist_ok=True)
        # The channel's folder may be a link to another disk.
        shutil.move(path, aside)
    except OSError as error:
        if error.errno not in removal.FULL:
            raise
        if path.suffix == layout.PARTIAL:
            path.unlink()
        return
    log.info("set aside %s: no line of the manifest names it", path.name)


def _finish_swaps(root: Path, known: dict[str, manifest.File]) -> None:
    staging = root / layout.COMPACTING
    for staged in sorted(staging.glob("*/date=*")):
        folder = root / staged.relative_to(staging)
        names = [Path(path).name for path in known if (root / path).parent == folder]
        is_here = all((folder / name).exists() for name in names)
        if not folder.exists() and names:
            # Killed between the two steps, on a file system without an atomic exchange.
            staged.rename(folder)
        elif not is_here and all((staged / name).exists() for name in names):
            exchange(staged, folder)
    if staging.exists():
        shutil.rmtree(staging)


def exchange(staged: Path, folder: Path) -> None:
    """
    Replace a folder by another one atomically.

    A file system that cannot do that (NFS) needs two steps; in between the folder is missing. Of a
    folder that is elsewhere, behind a link for example, the files are replaced one by one.
    """
    failed = errno.EXDEV if folder.is_symlink() else _exchange(staged, folder)
    if failed in _UNABLE:
        aside = staged.with_name(staged.name + ".old")
        folder.rename(aside)
        staged.rename(folder)
        aside.rename(staged)
    elif failed in _ELSEWHERE:
        _replace_files(staged, folder)
    elif failed:
        raise OSError(failed, os.strerror(failed), str(folder))
    reach("compact.swapped")
    sync_folder(folder.parent)
    sync_folder(staged.parent)


def _exchange(staged: Path, folder: Path) -> int:
    """Let two folders change places; return the error's number, 0 for none."""
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is None:
        return errno.ENOSYS
    names = (os.fsencode(staged), os.fsencode(folder))
    failed = renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_EXCHANGE))
    return ctypes.get_errno() if failed else 0


def _replace_files(staged: Path, folder: Path) -> None:
    """Copy what is new into a folder, then remove what is old; each file is whole or not there."""
    names = {path.name for path in staged.iterdir()}
    had = {path.name for path in folder.iterdir()}
    for name in sorted(names - had):
        partial = folder / (name + layout.PARTIAL)
        shutil.copyfile(staged / name, partial)
        publish(partial, folder / name)
    for name in had - names:
        (folder / name).unlink()
