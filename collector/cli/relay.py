"""`collector relay`: publish once more what cells publish."""

import click

from collector.cli import options, value_types
from collector.cli.command import Command
from shards.protocol.errors import ConfigError


@click.command(cls=Command)
@options.option(
    "--connect", required=True, metavar="ENDPOINT[,ENDPOINT…]", type=value_types.Endpoints(),
    help="Where the cells publish, or other relays.",
)  # fmt: skip
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
    connect: str,
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

    access_config.check_keys(keys, authorized_keys)
    for endpoint in () if insecure else publish:
        if said := refusal.of_publisher(endpoint, "--publish", has_keys=bool(keys)):
            raise ConfigError(said)
    if own := reads_itself(connect, publish):
        raise ConfigError(
            f"--connect {own} is where this relay publishes: it would read itself and never join"
        )
    cells = len(endpoints_of(connect))
    logs.configure("relay", level="INFO", form="text")
    config = RelayConfig(
        connect=connect,
        publish=publish,
        access=access_config.of_publisher(
            publish, keys=keys, authorized_keys=authorized_keys, insecure=insecure
        ),
        keys=tuple(key_files.read_each(upstream_keys, cells, "--upstream-keys"))
        if upstream_keys
        else (None,) * cells,
    )
    child.run_loop(lambda life: run(config, life.stop))
