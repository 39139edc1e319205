"""`collector cluster`: cells on many hosts, placed and kept by Ray."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from collector.cli import options, value_types
from collector.cli.base import Group
from collector.cli.cluster_lines import lines_of
from collector.cli.command import Command
from collector.settings import installed
from shards.protocol.errors import ConfigError
from shards.runtime.exit_codes import EXIT_BELOW, EXIT_CONFIG, EXIT_OK

if TYPE_CHECKING:
    from collector.cluster.folder import HostFolder
    from collector.cluster.spec import Spec, View

_DEFAULT_LISTEN: Final = "127.0.0.1:6700"


@click.group(
    cls=Group,
    lazy={
        "up": ("cluster", "Start a cluster, or let this host join one."),
        "status": ("cluster", "Show hosts, cells and replicas."),
        "scale": ("cluster", "Change the number of parts or replicas."),
        "down": ("cluster", "End all cells, and Ray."),
    },
)
def cluster() -> None:
    """
    Run cells on many hosts: each part of the markets on several of them (docs/cluster.md).

    Needs the extra cluster. Ray places the cells, and starts them elsewhere when a host is lost.
    """


def _folder(command: Any) -> Any:
    return options.option(
        "--folder", metavar="DIR", type=click.Path(path_type=Path),
        help="This host's folder of the cluster, the same path on all hosts.  "
        "[default: collector/cluster in $XDG_STATE_HOME or ~/.local/state]",
    )(command)  # fmt: skip


def _within(seconds: float) -> Callable[[Any], Any]:
    return options.option(
        "--within", type=value_types.Number(float, above=0), default=seconds, show_default=True,
        metavar="SECONDS", help="How long to wait until it is done.",
    )  # fmt: skip


def _sizes(command: Any) -> Any:
    parts = options.option(
        "--parts", type=value_types.Number(int, least=1), metavar="N",
        help="Number of parts that share the markets.  [default: as it is, or 1]",
    )  # fmt: skip
    replicas = options.option(
        "--replicas", type=value_types.Number(int, least=1), metavar="N",
        help="Number of cells of each part, on different hosts.  [default: as it is, or 2]",
    )  # fmt: skip
    return parts(replicas(command))


@click.command("cluster_up", cls=Command)
@options.option(
    "--address", metavar="HOST:PORT", type=value_types.Address(least=1),
    help="Join the Ray whose head is there.  [default: as it is, or this host is the head]",
)  # fmt: skip
@options.option(
    "--listen", metavar="HOST:PORT", type=value_types.Address(least=1024),
    help="Where the head listens, if this host is the head: an address of this host that the others "
    f"reach. Ray uses the hundred ports from there on, on each host.  [default: as it is, or {_DEFAULT_LISTEN}]",
)  # fmt: skip
@options.option(
    "--attach", is_flag=True,
    help="Others run Ray on this host: use it, and start none.",
)  # fmt: skip
@options.option(
    "--token", metavar="FILE", type=click.Path(),
    help="Ray's token, the same on all hosts.  [default: ray.token in the folder; the head makes it]",
)  # fmt: skip
@options.option(
    "--insecure", is_flag=True,
    help="Join a Ray that asks for no token: any process that reaches its ports can run programs on its hosts.",
)  # fmt: skip
@options.option(
    "--room", type=value_types.Number(int, least=0), metavar="N",
    help="How many cells this host may have.  [default: as it is, or one per CPU]",
)  # fmt: skip
@_sizes
@options.option(
    "--port", type=value_types.Number(int, least=1, most=65_000), metavar="PORT",
    help="Where the first cell of a host publishes; the next one is two ports higher.  "
    "[default: as it is, or 5590]",
)  # fmt: skip
@options.option(
    "--block", is_flag=True, help="Stay in the foreground, and end this host's part with Ctrl-C.",
)  # fmt: skip
@_within(120.0)
@_folder
@click.argument("arguments", metavar="[-- OPTIONS OF START]", nargs=-1, type=click.UNPROCESSED)
def up(*, folder: Path | None, within: float, block: bool, **given: Any) -> None:
    """
    Start a cluster on this host, or let this host join one.

    What follows -- are options of 'collector start' for every cell, for example
    -- --network mainnet --keys /etc/collector/server.key. Files are read on each host, under the
    same path. Run it on one host for the whole cluster, and with --address on all others; it can
    be run again at any time.
    """
    ctx = click.get_current_context()
    sources = {ctx.get_parameter_source(name) for name in ("address", "listen")}
    if sources == {ParameterSource.COMMANDLINE}:
        raise click.UsageError(
            "give --address (this host joins the head there) or --listen (it is the head), not both"
        )
    _require_ray()
    from collector.cluster import attempt, driver

    here = _here(folder)
    node = ray_node(here, given)
    asked = _asked(given, node)
    was_here = driver.is_joined(here, node)
    if was_here:
        # As after a reboot: its cells do not wait for a head that may be away.
        driver.join(here, node)
    try:
        # It waits so long at most for the head, to be in Ray, for the hosts, and for the cells.
        code = attempt.code_of_child(4 * within + attempt.ANSWERS_S)
    except ConfigError as error:
        if not (block and was_here):
            raise
        click.echo(str(error), err=True)
        code = EXIT_CONFIG
    if code is None:
        is_done = _tell(here, node, asked, within, is_insecure=given["insecure"])
        sys.exit(EXIT_OK if is_done else EXIT_BELOW)
    # Under a service manager, to end would be to end the cells.
    stays = (EXIT_OK, EXIT_BELOW, EXIT_CONFIG) if was_here else (EXIT_OK, EXIT_BELOW)
    if block and code in stays:
        _stay(here)
        code = EXIT_OK if code == EXIT_OK else EXIT_BELOW
    sys.exit(code)


def _tell(
    folder: "HostFolder", node: Any, asked: dict[str, Any], within: float, *, is_insecure: bool
) -> bool:
    """Join, and say what is wanted; print how it is then, and return whether it is as wanted."""
    from collector.cluster import driver

    if not node.is_head and not is_insecure:
        driver.check_token(node.address, within)
    driver.join(folder, node)
    _progress(f"waiting for Ray at {node.address}")
    with driver.connected(folder, within) as ray:
        manager = driver.Driver(ray, folder, create=True)
        # What the hosts know of a former manager comes first.
        _, view = manager.await_(lambda view: view.is_heard, within)
        spec = _spec(view.spec, asked) if asked or node.is_head else None
        if spec is not None:
            manager.want(spec)
        _progress("waiting for the cells")
        is_done, view = manager.await_(lambda view: _is_up(view, node.host), within)
    click.echo("\n".join(lines_of(view)))
    return is_done


def _progress(what: str) -> None:
    """Say what takes time, to a person."""
    if sys.stderr.isatty():
        click.echo(what, err=True)


def _is_up(view: "View", host: str) -> bool:
    """Whether this host is in it, and all that has a place is complete."""
    rows = [row for row in view.hosts if row.is_present]
    cells = view.cells()
    done = all(row.report.generation == view.generation for row in rows)
    placed = view.spec is None or (done and not view.behind and bool(cells or view.unplaced))
    is_in = any(row.host == host for row in rows)
    return is_in and placed and all(cell.is_ready for cell in cells)


def _stay(folder: "HostFolder") -> None:
    """Stay until Ctrl-C or SIGTERM, and end this host's keeper then."""
    import signal

    from collector.cluster import keeper

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        while True:
            keeper.ensure_if_needed(folder)
            time.sleep(1.0)
    except (KeyboardInterrupt, SystemExit):
        keeper.end(folder)


def ray_node(folder: "HostFolder", given: dict[str, Any]) -> Any:
    """Return how Ray is to run on this host: as it does, where nothing else is said."""
    import os

    from collector.cluster import driver
    from collector.cluster.folder import read
    from collector.cluster.ray_node import RayNode

    known = read(folder.ray, RayNode)
    at, is_head = given["address"] or given["listen"], given["address"] is None
    if known is not None and at is None:
        at, is_head = known.address, known.is_head
    at = driver.ray_address("--listen" if is_head else "--address", at or _DEFAULT_LISTEN)
    is_ours = not given["attach"] and (known is None or known.is_ours)
    host = driver.listening_host(folder, at, is_ours=is_ours) if is_head else driver.own_host(at)
    token = given["token"] or (known.token if known is not None else None)
    if given["insecure"]:
        token = ""
    if token != "":
        token = driver.token_of(folder, token, is_head=is_head)
    room = given["room"]
    if room is None:
        room = os.cpu_count() or 1 if known is None else known.room
    return RayNode(address=at, is_head=is_head, host=host, room=room, token=token, is_ours=is_ours)


def _asked(given: dict[str, Any], node: Any) -> dict[str, Any]:
    """Return what was said about the cells; refuse what cannot be."""
    from collector.cli.cluster_arguments import check
    from collector.cluster import driver

    asked = {name: given[name] for name in ("parts", "replicas", "port") if given[name] is not None}
    if "port" in asked:
        driver.check_cells_port(asked["port"], node)
    if given["arguments"]:
        check(given["arguments"], node.host)
        asked["arguments"] = given["arguments"]
    return asked


def _spec(known: "Spec | None", asked: dict[str, Any]) -> "Spec | None":
    """Return the new spec; None if nothing is to change."""
    import msgspec

    from collector.cluster.spec import Spec

    if known is None:
        return Spec(**asked)
    return msgspec.structs.replace(known, **asked) if asked else None


@click.command("cluster_status", cls=Command)
@options.json("Print the whole state as one JSON object.")
@options.option(
    "--endpoints", is_flag=True, help="Print only where the cells publish, for --connect.",
)  # fmt: skip
@_within(10.0)
@_folder
def status(*, as_json: bool, endpoints: bool, within: float, folder: Path | None) -> None:
    """
    Show hosts, cells and replicas; exit code 4 if a part lacks a replica.

    Run it on any host of the cluster. Readers need no Ray: 'collector status --cluster'.
    """
    _require_ray()
    from collector.cluster import attempt, driver

    here = _here(folder)
    attempt.go_on_in_child(within)
    with driver.connected(here, within) as ray:
        view = driver.Driver(ray, here, create=False, answer_s=within).view()
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(view).decode())
    elif endpoints:
        click.echo(",".join(cell.endpoint for cell in view.cells()))
    else:
        click.echo("\n".join(lines_of(view)))
    sys.exit(EXIT_OK if view.is_whole else EXIT_BELOW)


@click.command("cluster_scale", cls=Command)
@_sizes
@_within(120.0)
@_folder
def scale(
    *, parts: int | None, replicas: int | None, within: float, folder: Path | None
) -> None:  # fmt: skip
    """
    Change the number of parts or replicas, without losing a fact.

    New cells are complete before old ones end, if there is room.
    """
    if parts is None and replicas is None:
        raise click.UsageError("give --parts, --replicas or both")
    _require_ray()
    from collector.cluster import attempt, driver

    here = _here(folder)
    asked = {"parts": parts, "replicas": replicas}
    attempt.go_on_in_child(2 * within + attempt.ANSWERS_S)
    with driver.connected(here, within) as ray:
        manager = driver.Driver(ray, here, create=False)
        known = manager.view().spec
        if known is None:
            raise ConfigError("no cluster runs: 'collector cluster up' starts one")
        spec = _spec(known, {name: value for name, value in asked.items() if value is not None})
        manager.want(spec or known)
        _progress("waiting for the cells")
        is_done, view = manager.await_(lambda view: view.spec == spec and view.is_whole, within)
    click.echo("\n".join(lines_of(view)))
    sys.exit(EXIT_OK if is_done else EXIT_BELOW)


@click.command("cluster_down", cls=Command)
@options.option(
    "--here", is_flag=True,
    help="End only this host's cells and its Ray, whether the cluster can be reached or not.",
)  # fmt: skip
@_within(60.0)
@_folder
def down(*, here: bool, within: float, folder: Path | None) -> None:
    """
    End all cells, and Ray on the hosts where 'cluster up' started it.

    A host that cannot be reached keeps its cells: run it there with --here. With --here on one host
    of a running cluster, the other hosts start its cells, if they have room.
    """
    place = _here(folder)
    if here:
        _leave(place)
        return
    _require_ray()
    from collector.cluster import attempt, driver

    try:
        attempt.go_on_in_child(2 * within + attempt.ANSWERS_S)
        with driver.connected(place, within) as ray:
            view = driver.Driver(ray, place, create=False).end(within)
    except ConfigError as error:
        if not place.ray.exists():
            raise
        raise ConfigError(f"{error}; 'down --here' ends those of this host") from None
    left = [row.host for row in view.hosts if row.report.cells and row.is_present]
    away = [row.host for row in view.hosts if row.report.cells and not row.is_present]
    away += [lost.host for lost in view.lost]
    if left:
        click.echo(f"cells still run on {', '.join(left)}")
    if away:
        click.echo(
            f"cells may still run on {', '.join(away)}, which cannot be reached: "
            "end them with 'collector cluster down --here' on that host"
        )
    if not left and not away:
        click.echo("down")
    sys.exit(EXIT_BELOW if left or away else EXIT_OK)


def _leave(folder: "HostFolder") -> None:
    """End this host's part of the cluster."""
    from collector.cluster import driver, keeper

    node = driver.node_of(folder)
    if not node.is_ours and driver.asks_for_token(node.address) is not None:
        raise ConfigError(
            "--here: others run Ray on this host (--attach), and through it the cluster would start "
            "the cells again: end that Ray first"
        )
    keeper.ensure(folder)
    keeper.end(folder)
    folder.forget()
    click.echo("down on this host")


def _here(folder: Path | None) -> "HostFolder":
    from collector.cluster.folder import HostFolder, default_path

    return HostFolder((folder or default_path()).absolute())


def _require_ray() -> None:
    import importlib.util

    if importlib.util.find_spec("ray") is None:
        raise ConfigError(installed.missing("cluster", "ray is"))
