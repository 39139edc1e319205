"""What is under ops/ for systemd and Kubernetes, checked by the tools that know it."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from collector.settings.start_options import ROWS, twin_of
from shards.runtime.exit_codes import EXIT_CONFIG
from tests.needs import SYSTEMD_ANALYZE

OPS = Path(__file__).parents[2] / "ops"
CHART = OPS / "helm/injective-collector"
UNITS = sorted((OPS / "systemd").glob("*.service"))
EXPOSURE_AT_MOST = 1.5
KUBERNETES = ("1.30.0", "1.33.0", "1.36.0")

ONE = {"replicas": 1}
RECORDING = {
    "replicas": 3,
    "antiAffinity": "required",
    "record": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
}
IN_THE_OPEN = {
    "keys": {"secret": "collector-keys"},
    "config": 'log_format = "json"\n\n[limits]\nkeyframe_every = 32\n',
    "record": {"enabled": True, "storageClass": "fast"},
    "networkPolicy": {"readers": [{"podSelector": {"matchLabels": {"reads": "collector"}}}]},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "imagePullSecrets": [{"name": "registry"}],
    "env": [{"name": "COLLECTOR_START_LOG_LEVEL", "value": "DEBUG"}],
}
Values = dict[str, Any]
KINDS = {"StatefulSet", "Service", "NetworkPolicy"}


@SYSTEMD_ANALYZE.required()
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_exposes_little(unit: Path):
    done = subprocess.run(
        ("systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)),
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    assert float(found[1]) <= EXPOSURE_AT_MOST, done.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_again_what_found_no_node(unit: Path):
    """After a reboot the node may take minutes, and `start` ends with exit code 3 after 15 seconds."""
    text = unit.read_text()
    assert "\nRestart=always\n" in text
    never = re.findall(r"^RestartPreventExitStatus=(.*)$", text, flags=re.MULTILINE)
    assert str(EXIT_CONFIG) not in " ".join(never).split()


@SYSTEMD_ANALYZE.required()
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_a_unit(unit: Path, tmp_path: Path):
    # Only the program is not where the unit expects it.
    copy = tmp_path / unit.name
    copy.write_text(
        re.sub(r"^(ExecStart=)\S+", r"\1/bin/true", unit.read_text(), flags=re.MULTILINE)
    )
    done = subprocess.run(
        ("systemd-analyze", "verify", "--man=no", str(copy)),
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if str(copy) in line or unit.name in line]
    assert ours == []


@SYSTEMD_ANALYZE.required()
def test_systemd_understands_the_drop_in_for_keys(tmp_path: Path):
    """Together with its unit: what is wrong in it is said, and the service exposes no more."""
    unit = tmp_path / "collector.service"
    text = (OPS / "systemd/collector.service").read_text()
    unit.write_text(re.sub(r"^(ExecStart=)\S+", r"\1/bin/true", text, flags=re.MULTILINE))
    drop_in = tmp_path / "collector.service.d/keys.conf"
    drop_in.parent.mkdir()
    drop_in.write_text((OPS / "systemd/collector-keys.conf").read_text())
    done = subprocess.run(
        ("systemd-analyze", "verify", "--man=no", str(unit)),
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(tmp_path) not in done.stderr, done.stderr
    # The check reads drop-ins: it names a line that it does not know.
    drop_in.write_text(f"{drop_in.read_text()}LoadCredentials=x:/y\n")
    done = subprocess.run(
        ("systemd-analyze", "verify", "--man=no", str(unit)),
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "LoadCredentials" in done.stderr


def test_what_is_shipped_sets_options_that_there_are():
    """A name that belongs to no option would be refused at the start."""
    known = {twin_of("start", row.flag) for row in ROWS.values()}
    known |= {twin_of("start", "--config")}
    files = [path for path in OPS.rglob("*") if path.is_file() and path.suffix != ".json"]
    named = {
        name for path in files for name in re.findall(r"COLLECTOR_START_[A-Z_]+", path.read_text())
    }
    assert len(named) > 5
    assert named <= known


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_leaves_libzmq_what_it_needs(unit: Path):
    """Without either of them it aborts the process at its first socket, as seen under systemd 257."""
    lines = unit.read_text().splitlines()
    families = next(line for line in lines if line.startswith("RestrictAddressFamilies="))
    assert "AF_NETLINK" in families
    calls = [line for line in lines if line.startswith("SystemCallFilter=")]
    assert calls[-1].startswith("SystemCallFilter=sched_setscheduler ")


def test_the_documents_make_a_site(tmp_path: Path):
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet")
    done = subprocess.run(
        (*command, "--config-file", str(OPS / "docs/mkdocs.yml"), "--site-dir", str(tmp_path)),
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for page in (OPS.parent / "docs").rglob("*.md"):
        made = tmp_path / page.relative_to(OPS.parent / "docs").with_suffix(".html")
        assert made.exists(), page


@pytest.fixture(scope="module")
def helm():
    helm = pytest.importorskip("helm_python", reason="needs helm-python-sdk for this machine")
    assert platform.system() == "Linux"
    return helm


@pytest.mark.parametrize("values", [{}, ONE, RECORDING, IN_THE_OPEN])
def test_the_chart_lints(helm, values: Values):
    found = helm.lint(str(CHART), values, strict=True, kube_version="1.33.0")
    messages = [one for one in found.get("messages", []) if one.get("severity") != 1]
    assert found.get("errors", []) in ([], None), found
    assert messages == [], found


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", [{}, ONE, RECORDING, IN_THE_OPEN])
def test_the_chart_renders_what_kubernetes_takes(helm, values: Values, version: str):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    found = rendered(helm, values)
    assert found.keys() >= KINDS
    for kind, resource in found.items():
        if kind != "ServiceMonitor":  # the Prometheus operator's own
            kubernetes_validate.validate(resource, version, strict=True)


def rendered(helm, values: Values) -> dict[str, Values]:
    """The chart's resources by kind."""
    yaml = pytest.importorskip("yaml")
    with helm.Chart.load(str(CHART)) as chart:
        texts = chart.render(values, name="cells", namespace="market-data")
    resources = [yaml.safe_load(text) for name, text in texts.items() if name.endswith(".yaml")]
    return {resource["kind"]: resource for resource in resources if resource}


def test_many_cells_keep_apart_and_one_has_no_budget(helm):
    assert "PodDisruptionBudget" not in rendered(helm, ONE)
    many = rendered(helm, RECORDING)
    assert many["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    spec = many["StatefulSet"]["spec"]
    pod = spec["template"]["spec"]
    assert "requiredDuringSchedulingIgnoredDuringExecution" in pod["affinity"]["podAntiAffinity"]
    assert [c["name"] for c in pod["containers"]] == ["collector", "recorder"]
    assert [c["metadata"]["name"] for c in spec["volumeClaimTemplates"]] == ["state", "archive"]
    assert many["ServiceMonitor"]["metadata"]["labels"]["release"] == "prometheus"


def test_the_alert_of_a_collector_that_is_down_finds_the_charts_scrapes(helm):
    """By default the operator names a job after the release."""
    named = set(re.findall(r'job="([^"]+)"', (OPS / "alerts.yml").read_text()))
    [endpoint] = rendered(helm, RECORDING)["ServiceMonitor"]["spec"]["endpoints"]
    given = {one["replacement"] for one in endpoint["relabelings"] if one["targetLabel"] == "job"}
    assert named == given == {"collector"}


def test_no_frame_leaves_a_pod_without_keys(helm):
    def ports(found: Values) -> list[str]:
        return [port["name"] for port in found["Service"]["spec"]["ports"]]

    def arguments(found: Values) -> list[str]:
        pod = found["StatefulSet"]["spec"]["template"]["spec"]
        return cast(list[str], pod["containers"][0]["args"])

    closed, opened = rendered(helm, {}), rendered(helm, IN_THE_OPEN)
    assert ports(closed) == ["http"]
    assert "--publish=tcp://127.0.0.1:5590" in arguments(closed)
    assert ports(opened) == ["http", "publish", "requests"]
    assert "--publish=tcp://0.0.0.0:5590" in arguments(opened)
    assert "--keys=/etc/collector/keys/collector.key" in arguments(opened)


@pytest.mark.parametrize("values", [{}, RECORDING, IN_THE_OPEN])
def test_the_containers_may_do_nothing_but_their_work(helm, values: Values):
    pod = rendered(helm, values)["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == 65532
    assert not pod["automountServiceAccountToken"]
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert not security["allowPrivilegeEscalation"]
