"""
The README's commands on a Debian that has Python and git, and nothing else.

    sudo python3 tests/system/fresh_debian.py trixie testing

Needs root, debootstrap and git; nothing of ours. Each release becomes a folder of its own with
python3, python3-venv and git, and there: the README's first command as typed, the packages that it
brings counted, `pytest tests/shards` and a short run on each source. The commit that is checked out
is what is tried. A command that fails ends its release, and this script with 1.
"""

import argparse
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final, NamedTuple

PROJECT: Final = Path(__file__).parents[2]
CLONE: Final = "/root/injective-collector"
PACKAGES: Final = "python3,python3-venv,git"
SOURCES: Final = (
    "tests/system/test_sources.py",  # chain-ws and chain-grpc, on the node
    "tests/simulator/test_indexer_collector.py::test_markets_move_between_shards",
)
_NETWORK: Final = ("index-url", "extra-index-url", "cert", "proxy", "trusted-host", "timeout")
"""What of pip's settings says how the index is reached."""
_PASSED: Final = ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_FILES: Final = ("/etc/resolv.conf", "/etc/hosts")
# Its mounts and processes are its own, and end with the command.
_ENTER: Final = """
for one in dev sys; do mount --rbind /$one "$0/$one"; done
mount -t proc proc "$0/proc"
exec chroot "$0" "$@"
"""
_TIMEOUT_S: Final = 600.0
_TOX_TIMEOUT_S: Final = 3600.0
_PLAIN_AT_MOST: Final = 25
_COUNT: Final = f"""
.venv/bin/pip list --format freeze | cut -d= -f1 | sort > /tmp/devnet
python3 -m venv /tmp/plain && /tmp/plain/bin/pip install -q .
/tmp/plain/bin/pip list --format freeze | cut -d= -f1 | sort > /tmp/packages
echo "$(wc -l < /tmp/packages) packages, pip among them;" \
    "the devnet adds" $(comm -13 /tmp/packages /tmp/devnet)
test $(wc -l < /tmp/packages) -le {_PLAIN_AT_MOST}
"""
_TEST_PACKAGES: Final = """
python3 -m venv /tmp/uv && /tmp/uv/bin/pip install -q uv
/tmp/uv/bin/uv pip install -q --python .venv/bin/python -e '.[devnet]' --group tests
"""


class Step(NamedTuple):
    """A command, run in the clone."""

    name: str
    command: str
    timeout_s: float = _TIMEOUT_S
    is_alone: bool = False
    """Whether it listens on the default ports, which are the host's: one release at a time."""


class Done(NamedTuple):
    """How a command went."""

    name: str
    seconds: float
    code: int
    output: Path


def main() -> int:
    """Try every release that was named; print a table; return the exit code."""
    options = _options()
    told = environment()
    folder = Path(tempfile.mkdtemp(prefix="fresh-debian-", dir=options.folder))
    with ThreadPoolExecutor(len(options.releases)) as pool:
        roots = {
            name: pool.submit(root, name, folder, mirror=options.mirror, copies=options.roots)
            for name in options.releases
        }
        good = [_try(name, roots[name], told, options.tox) for name in options.releases]
    if options.keep:
        _say(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    return 0 if all(good) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The README's commands on a fresh Debian.")
    parser.add_argument("releases", nargs="+", metavar="RELEASE", help="bookworm, trixie, testing")
    parser.add_argument("--tox", action="store_true", help="the README's second command as well")
    parser.add_argument("--mirror", help="Debian's mirror  [default: what apt uses here]")
    parser.add_argument("--folder", help="where the roots are made  [default: for temporary files]")
    parser.add_argument("--roots", type=Path, help="copy fresh roots from here, by release")
    parser.add_argument("--keep", action="store_true", help="leave the roots and logs")
    options = parser.parse_args()
    missing = [name for name in ("debootstrap", "git", "unshare") if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        parser.error(f"needs root, and debootstrap, git, unshare; missing: {missing or 'root'}")
    return options


def _mirror() -> str:
    """Return the mirror from which apt has Debian itself."""
    command = ("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = (line.split() for line in done.stdout.splitlines())
    found = next((site for site, release in lines if "-" not in release), "")
    return found or "http://deb.debian.org/debian"


def root(
    release: str,
    folder: Path,
    *,
    packages: str = PACKAGES,
    mirror: str | None = None,
    copies: Path | None = None,
) -> tuple[Path, float]:
    """
    Make a root folder of a release, or copy one; return it, and the seconds it took.

    Args:
        release: Debian's name of it.
        folder: Where it is made, in a folder of that name.
        packages: What it has beside the bare system.
        mirror: Debian's mirror; what apt uses here if left out.
        copies: Where there may be a fresh one to copy.

    """
    started = time.monotonic()
    made = folder / release
    if copies and (copies / release).is_dir():
        subprocess.run(("cp", "-a", copies / release, made), check=True)
    else:
        _bootstrap(release, made, packages, mirror or _mirror())
    return made, time.monotonic() - started


def _bootstrap(release: str, root: Path, packages: str, mirror: str) -> None:
    command = ("debootstrap", "--variant=minbase", f"--include={packages}", release, root, mirror)
    with (root.parent / f"{release}-debootstrap.log").open("wb") as log:
        done = subprocess.run(command, stdout=log, stderr=log, check=False)
    if done.returncode:
        raise RuntimeError(
            f"debootstrap could not make {release} from {mirror} (exit {done.returncode}); "
            f"name a mirror that this machine reaches with --mirror\n{_end(Path(log.name))}"
        )


def environment() -> dict[str, str]:
    """Return what a command there is told of this machine: how the package index is reached."""
    done = subprocess.run(
        (sys.executable, "-m", "pip", "config", "list"), capture_output=True, text=True, check=False
    )
    settings = re.findall(r"^[^.\n]*\.([\w-]+)=(['\"].*['\"])$", done.stdout, re.MULTILINE)
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    for name, quoted in settings:
        value = quoted[1:-1]
        if name in _NETWORK and "file:" not in value:
            environment["PIP_" + name.replace("-", "_").upper()] = value
    return environment | {
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }


def _try(
    release: str, root: "Future[tuple[Path, float]]", environment: dict[str, str], tox: bool
) -> bool:
    """Run every command in one release; print its part of the table."""
    try:
        folder, seconds = root.result()
    except RuntimeError as error:
        _say(f"{release:9} {error}")
        return False
    furnish(folder, environment)
    _clone(folder)
    python = _run(folder, Step("python", "cd / && python3 --version"), environment)
    what = f"{release:9} {python.output.read_text().strip():14}"
    _say(f"{what} {seconds:6.0f} s  debootstrap with {PACKAGES}")
    for step in _steps(tox):
        with _alone() if step.is_alone else nullcontext():
            done = _run(folder, step, environment)
        said = _said(step.name, done.output)
        _say(f"{what} {done.seconds:6.0f} s  {step.name}{said}")
        if done.code:
            _say(f"exit {done.code}: {step.command}\n{_end(done.output)}")
            return False
    return True


def furnish(root: Path, environment: dict[str, str]) -> None:
    """Put there what is needed to reach the package index."""
    files = {*_FILES, *(value for value in environment.values() if value.startswith("/etc/"))}
    for file in map(Path, sorted(files)):
        if file.is_file():
            copy = root / file.relative_to("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _clone(root: Path) -> None:
    """Put our clone there."""
    clone = root / CLONE.lstrip("/")
    subprocess.run(("git", "clone", "-q", "--no-hardlinks", PROJECT, clone), check=True)


def _steps(tox: bool) -> Iterator[Step]:
    first, second = _typed("README.md", "python3 -m venv")
    yield Step("README's first command", first, is_alone=True)
    yield Step("pip list", f"set -e{_COUNT}")
    yield Step("what the tests need", f"set -e{_TEST_PACKAGES}")
    yield Step("pytest tests/shards", ".venv/bin/pytest -q tests/shards")
    yield Step("each source", f".venv/bin/pytest -q {shlex.join(SOURCES)}")
    if tox:
        yield Step("README's second command", second, _TOX_TIMEOUT_S)


def _typed(page: str, start: str) -> list[str]:
    """Return the shell blocks of a page that begin so, as they are typed."""
    blocks = re.findall(
        r"^```sh\n(.*?)^```$", (PROJECT / page).read_text(), re.MULTILINE | re.DOTALL
    )
    return [block for block in blocks if block.startswith(start)]


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other run of this script, on this clone, is in such a step."""
    project = os.open(PROJECT, os.O_RDONLY)
    try:
        fcntl.flock(project, fcntl.LOCK_EX)
        yield
    finally:
        os.close(project)


def _run(root: Path, step: Step, environment: dict[str, str]) -> Done:
    """Run a command in a root and wait for it; nothing that it started outlives it."""
    output = root.parent / f"{root.name}-{'-'.join(re.findall('[a-z]+', step.name.lower()))}.log"
    apart = (
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-ec",
        _ENTER,
        str(root),
    )
    clean = ("/usr/bin/env", "-i", *(f"{name}={value}" for name, value in environment.items()))
    typed = ("bash", "-c", f"cd {CLONE}\n{step.command}")
    started = time.monotonic()
    with output.open("wb") as log:
        try:
            code = subprocess.run(
                (*apart, *clean, *typed),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=step.timeout_s,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            log.write(f"\nstopped after {step.timeout_s:.0f} s\n".encode())
            code = 124
    return Done(step.name, time.monotonic() - started, code, output)


def _said(name: str, output: Path) -> str:
    """Return what is worth a place in the table."""
    text = output.read_text(errors="replace")
    if name == "pip list":
        return f": {text.strip()}"
    results = re.findall(r"^=*\s*(\d+ passed[^=\n]*)", text, re.MULTILINE)
    return f": {results[-1].strip()}" if results else ""


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _end(file: Path) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-40:])


if __name__ == "__main__":
    sys.exit(main())
