"""Files that are whole or not there: written beside, synced, renamed, the folder synced."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from collector.archive.storage import layout
from collector.archive.storage.crash_points import reach
from shards.protocol.chain import Mark
from shards.protocol.errors import UNREADABLE, ConfigError

_T = TypeVar("_T")
_LOOKS: Final = 5


def sync_folder(folder: Path) -> None:
    """Make sure that a folder's names survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; their names survive a power cut."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def publish(partial: Path, path: Path) -> None:
    """Give a finished file its name, so that it is there whole or not at all."""
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    reach("seal.written")
    partial.rename(path)
    reach("seal.renamed")
    sync_folder(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a small file in one step."""
    partial = path.with_name(path.name + layout.PARTIAL)
    with partial.open("wb") as written:
        written.write(content)
        written.flush()
        os.fsync(written.fileno())
    partial.rename(path)
    sync_folder(path.parent)


class Info(msgspec.Struct, kw_only=True):
    """What an archive is; written once, then only completed."""

    format: int
    span: int = layout.SPAN
    """Heights a part."""
    chain_id: str = ""
    """Of the chain whose facts these are; empty where no node has said it yet."""
    marks: list[Mark] = []
    """Some of its blocks, ``[height, hash, time]``: an id alone does not tell a chain."""
    created: str = ""


def open_archive(root: Path, *, span: int = 0, create: bool = False, now: str = "") -> Info:
    """
    Read an archive's description; with ``create``, make a missing archive first.

    Raises:
        ConfigError: If it is not there, not an archive, of a newer format, or cut differently.

    """
    path = root / layout.INFO
    try:
        info = msgspec.json.decode(path.read_bytes(), type=Info)
    except FileNotFoundError:
        if not create:
            raise ConfigError(f"{root}: no archive is here (there is no {layout.INFO})") from None
        info = _make(root, Info(format=layout.FORMAT, span=span or layout.SPAN, created=now))
    except NotADirectoryError:
        raise ConfigError(f"{root}: is not a folder; an archive is one") from None
    except OSError as error:
        raise ConfigError(f"{root}: cannot be read: {error.strerror}") from None
    except UNREADABLE as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if info.span < 1:
        raise ConfigError(f"{path}: cannot be read: {info.span} heights a part")
    if info.format > layout.FORMAT:
        raise ConfigError(
            f"{path}: format {info.format}, this program knows {layout.FORMAT}: use a newer one"
        )
    if span and span != info.span:
        raise ConfigError(f"{root}: has {info.span} heights a part, which cannot become {span}")
    return info


def write_info(root: Path, info: Info) -> None:
    """Complete what an archive says of itself."""
    write_whole(root / layout.INFO, msgspec.json.format(msgspec.json.encode(info)))


def _make(root: Path, info: Info) -> Info:
    try:
        make_folder(root)
        strangers = [p.name for p in root.iterdir() if not p.name.startswith(("_", "."))]
        if strangers:
            raise ConfigError(
                f"{root}: holds other files ({strangers[0]}): choose an empty or a new folder"
            )
        make_folder(root / layout.JOURNAL)
        write_info(root, info)
    except OSError as error:
        raise ConfigError(f"{root}: no archive can be made here: {error.strerror}") from None
    return info


@contextlib.contextmanager
def writing(root: Path) -> Iterator[None]:
    """
    Hold an archive's writer lock.

    Raises:
        ConfigError: If another process holds it; the text names that process.

    """
    with _locked(root, layout.LOCK, wait=False) as holder:
        if holder:
            raise ConfigError(f"{root}: {holder} is writing this archive; stop it first")
        yield


@contextlib.contextmanager
def sealing(root: Path, *, wait: bool = True) -> Iterator[bool]:
    """
    Hold the lock for creating and removing sealed files and for appending to the manifest.

    The recorder's children hold this while they seal a part, compaction and pruning while they
    work at one folder or part: neither stops the recorder itself. Yields whether it is held,
    which is always so after waiting.

    Raises:
        ConfigError: If the folder cannot be written.

    """
    with _locked(root, layout.SEALING, wait=wait) as holder:
        yield not holder


@contextlib.contextmanager
def _locked(root: Path, name: str, *, wait: bool) -> Iterator[str]:
    """Hold a lock, which ends with this process; yield its holder if that is another process."""
    try:
        descriptor = os.open(root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"{root}: cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            return
        except OSError as error:
            raise ConfigError(
                f"{root}: this file system has no locks ({error.strerror}), and without them two "
                "recorders could write one archive: choose a folder on another one"
            ) from None
        with contextlib.suppress(OSError):
            # The disk may be full; the lock is held in any case.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
        yield ""
    finally:
        os.close(descriptor)


def path_of(root: Path, relative: str) -> Path:
    """Return where a file of the manifest lies: at its place, or in a folder about to go there."""
    path = root / relative
    if path.exists():
        return path
    staged = root / layout.COMPACTING / relative
    return staged if staged.exists() else path


def with_files(look: Callable[[], _T]) -> _T:
    """
    Read the files that the manifest names; repeat if one was removed meanwhile.

    A replacement is named in the manifest first, so the next attempt finds it.

    Raises:
        ConfigError: If a file is not there at all.

    """
    missing = FileNotFoundError()
    for _ in range(_LOOKS):
        try:
            return look()
        except FileNotFoundError as error:
            missing = error
    text = str(missing.filename or missing)
    raise ConfigError(
        f"a file that the manifest names is missing: {text}. Put it back from a copy: "
        "`collector verify --archive` names all that are"
    )
