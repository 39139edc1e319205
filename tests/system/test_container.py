"""The image: built, run as it is meant to be run, stopped, and seen to be ill."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from collector.access import authorized_file, key_files
from tests.ahead import image
from tests.needs import PODMAN, PROMTOOL
from tests.system import containers
from tests.system.containers import FILES, IMAGE, Podman, made, need_containers, wait_for

pytestmark = [pytest.mark.network, pytest.mark.node, PODMAN.required()]

SMALL = ("--read-only", "--network", "none", "--shm-size", "64m", "--tmpfs", "/tmp")
KEYS = "/etc/collector/keys"
START = ("start", "--network", "devnet", "--devnet-spot", "4", "--devnet-perp", "2")


@pytest.fixture(scope="module")
def pod(request: pytest.FixtureRequest):
    """A podman with the image, made ahead by the process that shares the tests out, or here."""
    worker = getattr(request.config, "workerinput", None)
    ahead = image(worker["testrunuid"]) if worker else {}
    with nullcontext(Podman(Path(ahead["folder"]))) if "folder" in ahead else made() as pod:
        need_containers(pod)
        yield pod


def is_ready(pod: Podman, name: str) -> bool:
    return pod.code("exec", name, "collector", "health", "--ready") == 0


def processes(pod: Podman, name: str) -> dict[str, str]:
    """What runs in a container: the command line by pid."""
    script = 'for p in /proc/[0-9]*; do echo "${p#/proc/} $(tr "\\0" " " <$p/cmdline)"; done'
    lines = pod("exec", name, "sh", "-c", script, check=False).splitlines()
    return dict(line.partition(" ")[::2] for line in lines)


def test_the_main_job_runs_without_network_rights_or_a_writable_root(pod: Podman):
    pod("run", "--detach", "--name", "main", *SMALL, IMAGE, *START, "--summary", "-")
    wait_for("it is ready", lambda: is_ready(pod, "main"), 120.0)
    assert pod("exec", "main", "id", "-u").strip() == "65532"
    assert pod.code("exec", "main", "touch", "/opt/collector/x") != 0
    assert pod.code("healthcheck", "run", "main") == 0

    # An orphan is the init's: it does not stay as a zombie.
    pod("exec", "main", "sh", "-c", "(sleep 0.1 &) ; exit 0")
    script = 'grep -l "State:.Z" /proc/[0-9]*/status || true'
    wait_for("no zombie", lambda: not pod("exec", "main", "sh", "-c", script).strip(), 30.0)

    # SIGTERM to process 1 drains: the summary is whole, the exit code that of the program.
    pod("stop", "--time", "30", "main")
    summary, _ = json.JSONDecoder().raw_decode(output(pod, "main"))
    assert summary["coverage"]["now"] == 1.0
    assert summary["completeness"] == 1.0
    assert summary["blocks"]["missing"] == 0
    assert pod("inspect", "--format", "{{.State.ExitCode}}", "main").strip() == "0"


def output(pod: Podman, name: str) -> str:
    """What a container wrote to stdout."""
    done = subprocess.run(
        ("podman", "logs", name), env=pod.environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys as the kubelet mounts them: root's files behind links, readable for the pod's fsGroup."""
    mounted = tmp_path_factory.mktemp("secret")
    made = mounted / "..2026_11_28_12_00_00.1"
    collector = key_files.make("collector")
    recorder = key_files.make("recorder", server=collector.public)
    for keys in (collector, recorder):
        key_files.write(keys, made)
    entry = authorized_file.of_public(key_files.public_part(recorder))
    authorized_file.add(made / authorized_file.FILE, entry)
    (mounted / "..data").symlink_to(made.name)
    for one in list(made.iterdir()):
        one.chmod(0o440)
        (mounted / one.name).symlink_to(f"..data/{one.name}")
    for path, mode in ((made, 0o2755), (mounted, 0o3777)):
        for one in (path, *path.iterdir()):
            os.chown(one, 0, 65_532, follow_symlinks=False)
        path.chmod(mode)
    return mounted


@pytest.fixture(scope="module")
def with_keys(pod: Podman, secret: Path):
    """A container that other machines could reach, ready."""
    mounted = ("--volume", f"{secret}:{KEYS}:ro")
    given = ("--publish", "tcp://0.0.0.0:5590", "--keys", f"{KEYS}/collector.key")
    pod("run", "--detach", "--name", "keys", *SMALL, *mounted, IMAGE, *START, *given)
    wait_for("it is ready", lambda: is_ready(pod, "keys"), 120.0)
    yield "keys"
    pod("rm", "--force", "--time", "0", "keys")


def test_keys_are_taken_as_kubernetes_mounts_them(pod: Podman, with_keys: str):
    tail = ("collector", "tail", "--connect", "tcp://127.0.0.1:5590", "-n", "3", "--json")
    refused = pod("exec", with_keys, *tail, check=False)
    assert "asks for a key" in refused, refused
    events = pod("exec", with_keys, *tail, "--keys", f"{KEYS}/recorder.key").splitlines()
    channels = [json.loads(line)["channel"] for line in events if line.startswith("{")]
    assert len(channels) == 3
    assert set(channels) <= {"book", "trades"}


def test_its_health_turns_red_when_the_node_dies(pod: Podman, with_keys: str):
    found = processes(pod, with_keys)
    keeper = next(pid for pid, line in found.items() if "collector.devnet.node_manager" in line)
    node = next(pid for pid, line in found.items() if "injectived" in line and " start " in line)
    # The keeper would start the node again.
    kill = f"import os; os.kill({keeper}, 19); os.kill({node}, 9)"
    pod("exec", with_keys, "python3", "-c", kill)
    wait_for("it is not ready", lambda: not is_ready(pod, with_keys), 60.0)
    assert pod.code("healthcheck", "run", with_keys) != 0
    # The collector itself is well: it only has no node.
    assert pod.code("exec", with_keys, "collector", "health") == 0


def composed(*files: Path) -> tuple[str, ...]:
    """The command that runs our services, changed by further files."""
    named = (str(word) for file in (FILES / "compose.yaml", *files) for word in ("-f", file))
    return (sys.executable, "-m", "podman_compose", *named)


def test_compose_asks_for_real_time_only_where_it_is_wanted():
    """An engine that may not raise limits starts no container that asks for one."""

    def config(*files: Path) -> str:
        return subprocess.run(
            (*composed(*files), "config"), capture_output=True, text=True, check=True
        ).stdout

    assert "ulimits" not in config()
    assert "rtprio: 3" in config(FILES / "realtime.yaml")


def test_compose_records_and_is_scraped(pod: Podman, tmp_path: Path):
    PROMTOOL.require()
    prometheus = tmp_path / "Containerfile"
    shutil.copy(shutil.which("prometheus") or "", tmp_path / "prometheus")
    prometheus.write_text(
        f"FROM {containers.BASE}\nCOPY prometheus /bin/prometheus\nRUN install -d -m 0777 /prometheus\n"
        'ENTRYPOINT ["/bin/prometheus"]\n'
    )
    pod.run(*("buildah", "bud", "--tag", "localhost/prometheus", str(tmp_path)))
    alone = tmp_path / "alone.yaml"
    alone.write_text("services: {collector: {network_mode: none, ports: !reset []}}\n")
    pod.environment |= {
        "COLLECTOR_IMAGE": IMAGE,
        "COLLECTOR_NETWORK": "devnet",
        "PROMETHEUS_IMAGE": "localhost/prometheus",
    }
    compose = composed(alone)
    try:
        pod.run(*compose, "up", "--detach", "collector", "recorder", "prometheus")
        collector, recorder = (
            f"injective-collector_{name}_1" for name in ("collector", "recorder")
        )
        query = (
            "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9090/api/v1/query?query="
            "collector_coverage_ratio').read().decode())"
        )

        def scraped() -> bool:
            return '"1"]' in pod("exec", collector, "python3", "-c", query, check=False)

        wait_for("Prometheus has the coverage", scraped, 90.0)
        pod.run(*compose, "stop", "--timeout", "20", "recorder")
        told = pod(
            *("run", "--rm", *SMALL, "--volumes-from", recorder, IMAGE),
            *("archive", "coverage", "/archive"),
        )
        # What it has is in the journal: nothing is sealed so soon.
        kept = re.search(r"([\d.]+) kB not sealed yet", told)
        assert kept is not None, told
        assert float(kept[1]) > 1.0, told
    finally:
        # A failure must not leave services that start again whenever they end.
        pod.run(*compose, "down", "--volumes", "--timeout", "5", check=False)
