"""All checks, in the order in which the findings are printed."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from collector.control.state_folder import NONE, default_folder
from collector.doctor import clock, endpoints, machine, ports
from collector.doctor.findings import Finding, bad, note
from collector.doctor.keys import keys
from collector.http import address as http_address
from collector.markets import networks
from collector.settings.config_file import File
from collector.settings.start_options import StartOptions
from shards.adapters import registry
from shards.protocol.settings import Endpoints


def examine(options: StartOptions, file: File) -> Iterator[Finding]:
    """
    Check everything that `collector start` needs with these options; yield each finding at once.

    Raises:
        ConfigError: If the options cannot be understood.

    """
    shards = options.shards
    yield machine.files(shards)
    yield machine.memory(shards)
    yield machine.processors(shards)
    yield machine.priority(file.processes, shards)
    yield from _disks(options)
    yield from keys(options)
    yield from _listeners(options)
    yield from _network(options, file)


def _disks(options: StartOptions) -> Iterator[Finding]:
    state = options.state or default_folder(options.network, options.publish[0])
    if state and str(state) != NONE:
        yield machine.disk("state", str(state))
    if options.record:
        yield machine.disk("archive", options.record)
    yield machine.disk("temporary", os.environ.get("TMPDIR", "/tmp"))


def _listeners(options: StartOptions) -> Iterator[Finding]:
    yield from ports.publish(options.publish)
    if options.http:
        yield ports.listener(options.http, http_address.check)
    if options.web:
        # Only here: it needs the extra.
        from collector.web import address as web_address

        def listen(address: str) -> None:
            web_address.listen(address, option="--web", allow_remote=True).close()

        yield ports.listener(options.web, listen)


def _network(options: StartOptions, file: File) -> Iterator[Finding]:
    if options.network == "devnet" and "devnet" not in file.networks:
        yield _devnet()
        yield clock.clock((), clock.discipline())
        return
    source = options.source or networks.source(options.network, file)
    found = networks.endpoints(options.network, file, source)
    adapter = registry.adapter(source)
    with contextlib.closing(registry.open_access(found)) as access:
        looks = asyncio.run(endpoints.look_at_all(adapter, found, access))
        paces = {one.endpoint: access.allowed_per_s(one.endpoint) for one in looks}
    yield clock.clock(endpoints.witnesses(looks), clock.discipline())
    yield from endpoints.judge(looks, paces)
    yield from _left_out(found)


def _devnet() -> Finding:
    from collector.devnet.binary import need_client, node_binary
    from collector.devnet.errors import DevnetError
    from collector.doctor.findings import fine

    try:
        need_client()
        return fine("devnet", f"{Path(node_binary()).name} is there: it starts with the collector")
    except DevnetError as error:
        return bad("devnet", str(error))


def _left_out(found: Endpoints) -> Iterator[Finding]:
    """Note what a second endpoint, or one of another kind, would improve."""
    nodes = registry.of_role(found, "rpc")
    if not nodes:
        yield note(
            "rpc", "none is configured: lost blocks cannot be fetched, and heads cannot be compared"
        )
    elif len(nodes) == 1:
        yield note(
            "rpc", "only one: a stuck node can only be recognised by comparing it with another"
        )
