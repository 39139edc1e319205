"""
Sealing in a child process, which returns its memory to the system when it ends.

The recorder seals each complete part, and adds the facts that came after their part was sealed.
"""

import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import Final, Literal

from collector.archive.sealing.exit_codes import ALREADY
from collector.archive.storage import manifest
from collector.archive.storage.layout import Part, part_of
from shards.runtime.exit_codes import EXIT_BUG

log = logging.getLogger(__name__)

_NICE: Final = 10
"""How much lower the child's priority is than the recorder's."""
_SPARING: Final = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
"""Arrow's own pool and an arena per thread would keep about 25 MB that the child has freed."""


class SealedParts:
    """The sealed parts of one archive, and those that are waiting for late facts."""

    def __init__(self, root: Path, span: int) -> None:
        self._root = root
        self._span = span
        self.parts = manifest.sealed(manifest.read(root))
        self.late: set[Part] = set()
        """Sealed parts whose late facts are only in the journal so far."""
        self._at_work: Part | None = None
        """The part that is being sealed: the child may have read the journal already."""

    @property
    def through(self) -> int:
        """The last height of the newest sealed part; 0 without any."""
        return max((part.last for part in self.parts), default=0)

    def note_late(self, heights: list[int]) -> None:
        """Note the parts that were sealed, or were about to be, before facts of these heights came."""
        newest = max(self.through, -1 if self._at_work is None else self._at_work.last)
        for height in heights:
            if height <= newest:
                self.note_parts({part_of(height, self._span)})

    def note_parts(self, parts: set[Part]) -> None:
        """Note what was sealed, or is about to be, before a market that was behind caught up."""
        self.late |= {part for part in parts if part in self.parts or part == self._at_work}

    async def seal(self, part: Part) -> bool:
        """Seal a part; return False if that failed."""
        self._at_work = part
        code = await self._run("seal", part)
        self._at_work = None
        if code == ALREADY:
            # A recorder that was killed had sealed it: add what came since.
            self.late.add(part)
        elif code:
            # The next attempt reads what came meanwhile.
            self.late.discard(part)
            return False
        self.parts.add(part)
        return True

    async def add(self, part: Part) -> bool:
        """Add the late facts of a sealed part; return False if that failed."""
        # What comes from now on is late again: the child may have read the journal before.
        self.late.discard(part)
        if await self._run("additions", part):
            self.late.add(part)
            return False
        return True

    async def _run(self, module: Literal["seal", "additions"], part: Part) -> int:
        """Run a module of this package for a part, and return its exit code."""
        name = f"collector.archive.sealing.{module}"
        command = (sys.executable, "-m", name, str(self._root), str(part.first), str(os.getpid()))
        try:
            child = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, env={**_SPARING, **os.environ}
            )
        except OSError as error:
            # The system has no process or descriptor left; the journal keeps the part until then.
            log.warning("part %s: %s cannot be started: %s; trying again", part, module, error)
            return EXIT_BUG
        with contextlib.suppress(OSError):
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, child.pid, own + _NICE)
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            child.kill()
            await child.wait()
            raise
        if code in (0, ALREADY):
            log.info("part %s: %s done", part, module)
        else:
            log.warning("part %s: %s failed (exit code %d); trying again", part, module, code)
        return code
