"""What some tests need besides Python, how to have it, and what a run without it says."""

import shutil
from collections import Counter
from typing import Final, NamedTuple

import pytest

PREFIX: Final = "needs "
"""How the reason of such a skip begins."""


class Tool(NamedTuple):
    """Programs that are not Python packages."""

    name: str
    programs: tuple[str, ...]
    packages: str
    """What brings them on Debian and Ubuntu."""
    proves: str
    """What goes unproved without it."""

    @property
    def reason(self) -> str:
        """Why a test is skipped where it is missing."""
        return f"{PREFIX}{self.name}: apt-get install {self.packages}"

    def missing(self) -> bool:
        """Whether any of the programs is not there."""
        return any(shutil.which(program) is None for program in self.programs)

    def required(self) -> pytest.MarkDecorator:
        """Mark a test that is skipped where the tool is missing."""
        return pytest.mark.skipif(self.missing(), reason=self.reason)

    def require(self) -> None:
        """Skip the running test where the tool is missing."""
        if self.missing():
            pytest.skip(self.reason)


BROWSER: Final = Tool(
    "a browser",
    ("chromium", "chromedriver"),
    "chromium chromium-driver",
    "the web page",
)
NODE_JS: Final = Tool(
    "Node.js", ("node", "npm"), "nodejs npm", "the reader in Node.js of docs/wire-format.md"
)
PROMTOOL: Final = Tool(
    "promtool", ("promtool",), "prometheus", "the alert rules and the metrics' format"
)
VALGRIND: Final = Tool(
    "valgrind", ("valgrind",), "valgrind", "the budget of machine instructions (bench)"
)
STRACE: Final = Tool("strace", ("strace",), "strace", "the count of system calls (bench)")
FAKETIME: Final = Tool("faketime", ("faketime",), "faketime", "that no clock must be right")
PODMAN: Final = Tool(
    "podman",
    ("podman", "buildah", "runc", "debootstrap"),
    "podman buildah runc debootstrap",
    "the image and the compose file",
)
SYSTEMD_ANALYZE: Final = Tool(
    "systemd-analyze", ("systemd-analyze",), "systemd", "the hardening of the units"
)
GRAFANA: Final = Tool(
    "Grafana",
    ("grafana",),
    "grafana (from apt.grafana.com)",
    "that Grafana itself shows the dashboard",
)
NAMESPACES: Final = Tool(
    "namespaces", ("ip", "unshare", "nsenter"), "iproute2 util-linux", "a cluster on three hosts"
)
TOOLS: Final = (
    *(BROWSER, NODE_JS, PROMTOOL, VALGRIND, STRACE, FAKETIME),
    *(PODMAN, SYSTEMD_ANALYZE, GRAFANA, NAMESPACES),
)


def not_proved(reasons: list[str]) -> list[str]:
    """Say what a run could not prove, given the reasons of its skipped tests; one line for each."""
    counted = Counter(reason.removeprefix("Skipped: ").splitlines()[0] for reason in reasons)
    known = {tool.reason: f"{tool.proves}: " for tool in TOOLS}
    return [
        f"{known.get(reason, '')}{_tests(skipped)} skipped, {reason}"
        for reason, skipped in counted.items()
    ]


def _tests(count: int) -> str:
    return f"{count} test{'s' * (count != 1)}"


def summarize(reporter: pytest.TerminalReporter) -> None:
    """End the report with what was not proved here."""
    skipped = reporter.stats.get("skipped", [])
    reasons = [one.longrepr[2] for one in skipped if isinstance(one.longrepr, tuple)]
    if lines := not_proved(reasons):
        reporter.section("not proved on this machine")
        for line in lines:
            reporter.write_line(line)
