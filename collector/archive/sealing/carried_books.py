"""Every market's book at the start of a part, kept in the journal's folder until that part is sealed."""

import logging
from pathlib import Path
from typing import Final

import msgspec

from collector.archive.sealing.book_track import Carried
from collector.archive.storage import layout
from collector.archive.storage.files import write_whole
from collector.archive.storage.layout import Part
from shards.protocol.errors import UNREADABLE

log = logging.getLogger(__name__)

_encode: Final = msgspec.msgpack.Encoder().encode
_books: Final = msgspec.msgpack.Decoder(list[Carried]).decode


def books_path(root: Path, first: int) -> Path:
    """Return where the books at the start of a part are kept until it is sealed."""
    return root / layout.JOURNAL / f"books-{first:012}.msgpack"


def load_books(root: Path, part: Part) -> list[Carried]:
    """Return every market's book as the part before this one left it."""
    path = books_path(root, part.first)
    try:
        return _books(path.read_bytes())
    except FileNotFoundError:
        return []
    except UNREADABLE as error:
        # The facts do not depend on it: books are known again from their next whole book on.
        log.warning("%s: not readable, so the part lacks some keyframes: %s", path, error)
        return []


def save_books(root: Path, part: Part, books: list[Carried]) -> None:
    """Keep every market's book for the part that begins here."""
    write_whole(books_path(root, part.first), _encode(books))
