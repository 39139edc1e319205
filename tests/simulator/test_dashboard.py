"""Each panel of the dashboard shows something, asked by a real Prometheus of a running collector."""

import re
from pathlib import Path

import msgspec

from tests.needs import PROMTOOL
from tests.simulator.client import simulator
from tests.system.prometheus import is_installed, prometheus
from tests.system.running import collector, eventually, free_port_pair

_DASHBOARD = Path(__file__).parents[2] / "ops" / "grafana.json"


def _questions() -> dict[str, str]:
    """Return each panel's expressions with what Grafana would put in place of its variables."""
    panels = msgspec.json.decode(_DASHBOARD.read_bytes())["panels"]
    rows = [inner for panel in panels for inner in (panel, *panel.get("panels", ()))]
    found = {}
    for panel in rows:
        for target in panel.get("targets", ()):
            expression = re.sub(r'\binstance="\$instance"', 'instance=~".+"', target["expr"])
            # Where all is well, nothing satisfies a comparison: its left side must be there.
            expression = expression.removesuffix(" == 0")
            found[expression.replace("$__rate_interval", "10s")] = panel["title"]
    return found


@PROMTOOL.required()
def test_every_panel_has_its_series(tmp_path: Path) -> None:
    assert is_installed()
    http = free_port_pair()
    with (
        simulator("--markets", "4", "--block-time", "0.2") as venue,
        collector(tmp_path, "--shards", "2", "--config", str(venue.config(tmp_path)),
                  "--record", str(tmp_path / "archive"), "--http", f"127.0.0.1:{http}") as running,
    ):  # fmt: skip
        running.await_live()
        with prometheus(tmp_path, http) as asked:
            questions = _questions()
            assert len(questions) > 30

            def empty() -> dict[str, str]:
                return {q: title for q, title in questions.items() if not asked.series(q)}

            eventually(lambda: not empty(), within_s=40.0, every_s=1.0, what=empty)
