"""Each panel of the dashboard shows something, asked by a real Prometheus of a running collector."""

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.needs import GRAFANA, PROMTOOL
from tests.simulator.client import simulator
from tests.system.http import get_json
from tests.system.prometheus import is_installed, prometheus
from tests.system.running import collector, eventually, free_port_pair

_OPS = Path(__file__).parents[2] / "ops"
_DASHBOARD = _OPS / "grafana.json"
_PROVISIONING = _OPS / "container/grafana/provisioning"


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

            eventually(lambda: not empty(), within_s=90.0, every_s=1.0, what=empty)


def test_the_panels_take_their_data_from_what_is_provisioned() -> None:
    yaml = pytest.importorskip("yaml")
    [source] = yaml.safe_load((_PROVISIONING / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    dashboard = msgspec.json.decode(_DASHBOARD.read_bytes())
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == source["type"]
    panels = [p for p in dashboard["panels"] if p["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    [provider] = yaml.safe_load((_PROVISIONING / "dashboards/collector.yaml").read_text())[
        "providers"
    ]
    compose = yaml.safe_load((_OPS / "container/compose.yaml").read_text())["services"]["grafana"]
    mounted = dict(volume.split(":")[:2] for volume in compose["volumes"])
    assert mounted["./grafana/provisioning"] == "/etc/grafana/provisioning"
    assert Path(mounted["../grafana.json"]).parent == Path(provider["options"]["path"])


@GRAFANA.required()
def test_grafana_itself_has_the_dashboard(tmp_path: Path) -> None:
    provisioning = tmp_path / "provisioning"
    shutil.copytree(_PROVISIONING, provisioning)
    shutil.copy(_DASHBOARD, tmp_path / "collector.json")
    file = provisioning / "dashboards/collector.yaml"
    file.write_text(file.read_text().replace("/etc/dashboards", str(tmp_path)))
    port = free_port_pair()
    settings = {
        "GF_PATHS_DATA": str(tmp_path / "data"),
        "GF_PATHS_LOGS": str(tmp_path / "logs"),
        "GF_PATHS_PROVISIONING": str(provisioning),
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
    }
    command = ("grafana", "server", "--homepath", "/usr/share/grafana")
    with subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.DEVNULL) as server:
        try:
            uid = msgspec.json.decode(_DASHBOARD.read_bytes())["uid"]

            def shown() -> Any:
                with contextlib.suppress(OSError, ValueError):
                    return get_json(port, f"/api/dashboards/uid/{uid}")["dashboard"]["panels"]

            assert len(eventually(shown, within_s=60.0, every_s=0.5)) > 10
        finally:
            server.terminate()
