"""
A process that has imported our modules and does nothing: the children are forked from it.

Importing costs a shard 0.3 s of CPU and 20 MB; a fork of the template costs a few milliseconds and
the pages that it writes to. The template is itself a fork of the coordinator, made before that
has a thread, a socket of ZeroMQ, a channel of gRPC or a loop: none of these survives a fork.

::

    coordinator ──fork──► template ──fork──► (middle) ──fork──► shard 0
         ▲                                      └─ ends at once
         └──────────── adopts the orphan: it is the parent of every child

So the coordinator gets each exit code from the kernel, and the template may be killed: running
children continue, and later ones are new interpreters, which start more slowly but behave the same.
The template ends with the coordinator, because the other end of its socket closes.
"""

import contextlib
import ctypes
import gc
import logging
import mmap
import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

import setproctitle

from collector.control.launch import Process, Target, spawn, stand_somewhere
from shards.runtime import descriptors, parent
from shards.runtime.child import Heartbeat
from shards.runtime.exit_codes import EXIT_BUG, EXIT_OK

log = logging.getLogger(__name__)

ANSWER_S: Final = 15.0
"""How long the template may take to fork; the first time it is still importing."""
_FROM_TERMINAL: Final = frozenset((signal.SIGINT, signal.SIGHUP))
_NUMBER: Final = struct.Struct("=q")
_PR_SET_CHILD_SUBREAPER: Final = 36


class Beat:
    """A double in memory that two processes share; it is 0 at first."""

    def __init__(self, file: int) -> None:
        self._cell = memoryview(mmap.mmap(file, 8)).cast("d")

    @property
    def value(self) -> float:
        """The double."""
        return self._cell[0]

    @value.setter
    def value(self, new: float) -> None:
        self._cell[0] = new


class Forked:
    """A child of ours that the template forked."""

    def __init__(self, pid: int, lifeline: int) -> None:
        """``lifeline`` is a pipe: when our end of it closes, the child stops."""
        self.pid = pid
        self._exit_code: int | None = None
        self._lifeline = lifeline
        self.sentinel = os.pidfd_open(pid)

    @property
    def exitcode(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it; None until then."""
        if self._exit_code is None:
            try:
                ended, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                # If SIGCHLD is ignored, the system reports no exit codes.
                self._exit_code = EXIT_BUG if self._has_ended(0) else None
            else:
                self._exit_code = os.waitstatus_to_exitcode(status) if ended else None
        return self._exit_code

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, at most ``timeout`` seconds."""
        self._has_ended(timeout)

    def _has_ended(self, within_s: float | None) -> bool:
        poll = select.poll()
        poll.register(self.sentinel, select.POLLIN)
        return bool(poll.poll(None if within_s is None else within_s * 1e3))

    def close(self) -> None:
        """Free its resources."""
        os.close(self.sentinel)
        os.close(self._lifeline)


class Template:
    """The template process, for the coordinator; close it when no child is left."""

    def __init__(self, preload: Callable[[], None], answer_s: float = ANSWER_S) -> None:
        """
        Fork it now, if this system and this process allow it; otherwise children are spawned.

        Args:
            preload: Imports the missing modules; called in the template.
            answer_s: How long it may take to fork.

        """
        self._socket: socket.socket | None = None
        self._answer_s = answer_s
        self.pid = 0
        """Its process id; 0 if it could not be forked."""
        if _can_fork():
            self._fork(preload)

    def _fork(self, preload: Callable[[], None]) -> None:
        ours, theirs = socket.socketpair()
        # Most of the existing objects are permanent. A garbage collection must not touch them: that
        # would copy their pages.
        gc.freeze()
        # Ctrl-C reaches the template too. Neither it nor a child that is starting must receive the
        # signal.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_TERMINAL)
        try:
            self.pid = os.fork()
            if not self.pid:
                ours.close()
                _serve(theirs, preload)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        ours.settimeout(self._answer_s)
        self._socket = ours

    def launch(self, name: str, target: Target, config: Any) -> tuple[Process, Heartbeat]:
        """
        Start a process by forking the template, or as a new interpreter if the template is gone.

        Raises:
            OSError: If the system refuses.

        """
        if self._socket is not None:
            try:
                return _ask(self._socket, pickle.dumps((target, config)))
            except (EOFError, ConnectionError, TimeoutError):
                log.warning(
                    "the process that others are forked from is gone or stuck: "
                    "children take longer to start until this collector is started again"
                )
                self.close()
        return spawn(name, target, config)

    def close(self) -> None:
        """End the template; the children live on."""
        if self._socket is None:
            return
        self._socket.close()
        self._socket = None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _can_fork() -> bool:
    """Return whether this is Linux as we need it, and no other thread runs."""
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
        os.close(os.memfd_create("heartbeat"))
        with _adopting():
            pass
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _ask(template: socket.socket, job: bytes) -> tuple[Process, Heartbeat]:
    """Run a job in a fork of the template."""
    memory = os.memfd_create("heartbeat")
    theirs, ours = os.pipe()
    try:
        os.ftruncate(memory, 8)
        beat = Beat(memory)
        with _adopting():
            socket.send_fds(template, [_NUMBER.pack(len(job))], [memory, theirs])
            template.sendall(job)
            (pid,) = _NUMBER.unpack(_receive(template, _NUMBER.size))
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return Forked(pid, ours), beat
    except BaseException:
        # If it was forked all the same, this stops it.
        os.close(ours)
        raise
    finally:
        os.close(memory)
        os.close(theirs)


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Adopt descendants whose parent ends, for the duration of the block."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot adopt processes")
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _receive(source: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = source.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


# ---- in the template, and in the children -------------------------------------------------


def _serve(coordinator: socket.socket, preload: Callable[[], None]) -> NoReturn:
    """Run as the template until the coordinator ends."""
    try:
        setproctitle.setproctitle("collector: template")
        # The coordinator raises its own limit later; children inherit ours.
        descriptors.raise_limit()
        preload()
        gc.collect()
        gc.freeze()
        while True:
            size, files, *_ = socket.recv_fds(coordinator, _NUMBER.size, 2)
            if not size:
                break
            job = _receive(coordinator, *_NUMBER.unpack(size))
            coordinator.sendall(_NUMBER.pack(_fork_twice(coordinator, job, files)))
            for file in files:
                os.close(file)
    finally:
        error = sys.exception()
        # A signal to the whole group ends us by the coordinator's own handler, which we inherited.
        if error is not None and not isinstance(error, EOFError | ConnectionError | SystemExit):
            sys.excepthook(*sys.exc_info())
        os._exit(EXIT_OK)


def _fork_twice(coordinator: socket.socket, job: bytes, files: list[int]) -> int:
    """Fork a child whose parent ends at once; return its process id, or a negative error number."""
    said, saying = os.pipe()
    try:
        middle = os.fork()
        if not middle:
            try:
                pid = os.fork()
            except OSError as error:
                pid = -(error.errno or 1)
            if pid:
                os.write(saying, _NUMBER.pack(pid))
                os._exit(EXIT_OK)
            os.close(said)
            os.close(saying)
            coordinator.close()
            _become(job, *files)
        os.waitpid(middle, 0)
        return int(*_NUMBER.unpack(os.read(said, _NUMBER.size)))
    except OSError as error:
        return -(error.errno or 1)
    finally:
        os.close(said)
        os.close(saying)


def _become(job: bytes, memory: int, lifeline: int) -> NoReturn:
    """Run as the child, from its first line to its exit code."""
    try:
        stand_somewhere()
        parent.is_at(lifeline)
        # These handlers are the coordinator's; this process logs under its own name.
        logging.getLogger().handlers.clear()
        target, config = pickle.loads(job)
        beat = Beat(memory)
        os.close(memory)
        target(config, beat)
    finally:
        _leave(sys.exception())


def _leave(error: BaseException | None) -> NoReturn:
    """End as an interpreter does, except for the coordinator's own exit handlers."""
    code = EXIT_OK
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else EXIT_BUG
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        code = EXIT_BUG
    # As `multiprocessing` does: end idle workers of executors, and wait for all other threads.
    threading._shutdown()  # type: ignore[attr-defined]
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
