"""Images and containers for the tests: podman with a storage of its own, nothing from a registry."""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.system import fresh_debian

PROJECT: Final = Path(__file__).parents[2]
FILES: Final = PROJECT / "ops/container"
BASE: Final = "localhost/debian:trixie"
IMAGE: Final = "localhost/injective-collector:devnet"
_PREFIX: Final = "containers-"
_OWNER: Final = "owner"
"""Locked by the process whose containers they are; the kernel unlocks it when that ends."""
_LEFT_OUT: Final = ("./proc", "./sys", "./dev", "./var/cache/apt", "./var/lib/apt/lists")


class Podman:
    """podman and buildah on a storage that ends with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings = folder / "storage.conf"
        settings.write_text(
            f'[storage]\ndriver = "{_driver()}"\n'
            f'graphroot = "{folder}/images"\nrunroot = "{folder}/run"\n'
        )
        engine = folder / "containers.conf"
        engine.write_text(
            # Where limits may not be raised, podman's own would be refused.
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\n'
            f'[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            f'volume_path = "{folder}/volumes"\nstatic_dir = "{folder}/static"\n'
            f'tmp_dir = "{folder}/tmp"\n'
        )
        self.environment = os.environ | {
            "CONTAINERS_STORAGE_CONF": str(settings),
            "CONTAINERS_CONF": str(engine),
            "BUILDAH_ISOLATION": "chroot",
        }

    def __call__(self, *arguments: str, within_s: float = 120.0, check: bool = True) -> str:
        """Run podman; return what it printed, errors too."""
        return self.run("podman", *arguments, within_s=within_s, check=check)

    def run(self, *command: str, within_s: float = 120.0, check: bool = True) -> str:
        """Run a program that uses this storage; return what it printed, errors too."""
        try:
            done = subprocess.run(
                command,
                env=self.environment,
                cwd=PROJECT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=within_s,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            # podman-compose waits forever for a container that podman refused to start.
            said = (late.stdout or b"").decode(errors="replace")
            raise AssertionError(
                f"{' '.join(command)}: not done after {within_s:.0f} s\n{said}"
            ) from None
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}")
        return done.stdout

    def code(self, *arguments: str) -> int:
        """Run podman; return its exit code."""
        done = subprocess.run(
            ("podman", *arguments),
            env=self.environment,
            capture_output=True,
            timeout=120,
            check=False,
        )
        return done.returncode


def _driver() -> str:
    """Name the quick storage driver where the kernel has it for us, or else the one that copies."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("lower", "upper", "work", "merged"):
            (Path(folder) / name).mkdir()
        options = ",".join(f"{name}dir={folder}/{name}" for name in ("lower", "upper", "work"))
        mount = ("mount", "-t", "overlay", "overlay", "-o", options, f"{folder}/merged")
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return "vfs"
        subprocess.run(("umount", f"{folder}/merged"), check=True)
        return "overlay"


@contextmanager
def podman() -> Iterator[Podman]:
    """Give a podman; its containers and images end with the block, or when the next one begins."""
    reap()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    with (folder / _OWNER).open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        try:
            yield Podman(folder)
        finally:
            _remove(folder)


def reap() -> None:
    """Remove the containers of processes that ended without doing so: stuck, or killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_OWNER}"):
        with suppress(OSError), path.open("r+") as owner:
            # A process that lives has its lock.
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path.parent)


def _remove(folder: Path) -> None:
    found = Podman(folder)
    found("rm", "--all", "--force", "--time", "0", check=False)
    _kill_rest(folder)
    found("umount", "--all", check=False)
    subprocess.run(("umount", "-l", f"{folder}/images/overlay"), capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def _kill_rest(folder: Path) -> None:
    """Kill what podman left running, as it does of containers that others depend on."""
    for process in psutil.process_iter(["name", "cmdline"]):
        # A process that ends while it is read has no command line (None).
        command = process.info["cmdline"] or ()
        if process.info["name"] == "conmon" and str(folder) in " ".join(command):
            with suppress(psutil.NoSuchProcess):
                for one in (process, *process.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess):
                        one.kill()


def make_base(podman: Podman, folder: Path) -> None:
    """Make the base image: Debian 13 with Python, and how this machine reaches the package index."""
    try:
        root, _ = fresh_debian.root("trixie", folder, packages="python3,python3-venv")
    except RuntimeError:
        # It downloads a system: once more.
        shutil.rmtree(folder / "trixie", ignore_errors=True)
        root, _ = fresh_debian.root("trixie", folder, packages="python3,python3-venv")
    environment = fresh_debian.environment()
    fresh_debian.furnish(root, environment)
    settings = {
        name[4:].lower(): value for name, value in environment.items() if name[:4] == "PIP_"
    }
    lines = "".join(f"{name.replace('_', '-')} = {value}\n" for name, value in settings.items())
    (root / "etc/pip.conf").write_text(f"[global]\n{lines}")
    archive = folder / "base.tar"
    leave_out = (f"--exclude={name}" for name in _LEFT_OUT)
    subprocess.run(("tar", "-C", root, *leave_out, "-cf", archive, "."), check=True)
    shutil.rmtree(root)
    podman("import", str(archive), BASE)
    archive.unlink()


@contextmanager
def made() -> Iterator[Podman]:
    """Give a podman that has the project's image with its devnet, where containers can be run."""
    with podman() as pod, tempfile.TemporaryDirectory(prefix="base-") as folder:
        make_base(pod, Path(folder))
        if runs_containers(pod):
            build(pod, IMAGE, "archive,devnet,web")
        yield pod


def runs_containers(podman: Podman) -> bool:
    """Whether the system lets us run a container."""
    command = ("run", "--rm", "--network", "none", BASE, "echo", "works")
    return any("works" in podman(*command, check=False) for _ in range(2))


def need_containers(podman: Podman) -> None:
    """Skip where the system lets nobody run a container."""
    if not runs_containers(podman):
        said = podman("run", "--rm", "--network", "none", BASE, "echo", "works", check=False)
        pytest.skip(f"podman runs no containers here: {said.strip()[-200:]}")


def build(podman: Podman, name: str, extras: str) -> None:
    """Build the project's image on the base."""
    podman.run(
        *("buildah", "bud", "--format", "docker", "--file", str(FILES / "Containerfile")),
        *("--build-arg", f"BASE={BASE}", "--build-arg", f"EXTRAS={extras}", "--tag", name, "."),
        within_s=600.0,
    )


def wait_for(what: str, holds: Callable[[], bool], within_s: float) -> float:
    """Wait until something holds; return how long it took."""
    started = time.monotonic()
    while not holds():
        if time.monotonic() > started + within_s:
            raise AssertionError(f"within {within_s:.0f} s: {what}")
        time.sleep(0.2)
    return time.monotonic() - started
