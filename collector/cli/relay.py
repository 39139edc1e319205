"""`collector relay`: publish once more what cells publish."""

import click

from collector.cli import options, query, value_types
from collector.cli.command import Command
from shards.protocol.errors import ConfigError


@click.command(cls=Command)
@options.option(
    "--connect", metavar="ENDPOINT[,ENDPOINT…]", type=value_types.Endpoints(),
    help="Where the cells publish, or other relays. This or --cluster is required.",
)  # fmt: skip
@options.cluster
@options.option(
    "--upstream-keys", metavar="FILE[,FILE…]", type=click.Path(),
    help="This relay's key file at the cells, if they ask for one. Cells with different keys need "
    "one for each.  [default: none]",
)  # fmt: skip
@options.option(
    "--publish", multiple=True, required=True, metavar="ENDPOINT", type=value_types.Endpoint(),
    help="Where readers connect; may be repeated.",
)  # fmt: skip
@options.door
def relay(
    *,
    connect: str | None,
    cluster: str | None,
    upstream_keys: str | None,
    publish: tuple[str, ...],
    keys: str | None,
    authorized_keys: str | None,
    insecure: bool,
) -> None:
    """
    Publish once more what one or more cells publish, for many readers.

    A relay has a history of its own: late joiners and readers that lost frames ask it, and not the
    cells. Readers, keys and commands are those of a collector. Relays may read relays.
    """
    from collector.access import config as access_config, key_files, refusal
    from collector.relay.process import RelayConfig, relay as run
    from collector.settings.addresses import endpoints_of, reads_itself
    from shards.runtime import child, logs

    query.refuse_both(cluster)
    if connect is None and cluster is None:
        raise click.UsageError("--connect or --cluster: one of them is required")
    access_config.check_keys(keys, authorized_keys)
    for endpoint in () if insecure else publish:
        if said := refusal.of_publisher(endpoint, "--publish", has_keys=bool(keys)):
            raise ConfigError(said)
    named = connect or cluster or ""
    if own := reads_itself(named, publish):
        option = "--connect" if connect else "--cluster"
        raise ConfigError(
            f"{option} {own} is where this relay publishes: it would read itself and never join"
        )
    # All cells of a cluster take the same key.
    cells = 1 if connect is None else len(endpoints_of(connect))
    logs.configure("relay", level="INFO", form="text")
    config = RelayConfig(
        connect=connect or "",
        cluster=cluster,
        publish=publish,
        access=access_config.of_publisher(
            publish, keys=keys, authorized_keys=authorized_keys, insecure=insecure
        ),
        keys=tuple(key_files.read_each(upstream_keys, cells, "--upstream-keys"))
        if upstream_keys
        else (None,) * cells,
    )
    child.run_loop(lambda life: run(config, life.stop))
