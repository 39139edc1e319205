"""The child processes of one run, and the configuration that each gets when it starts."""

import itertools
from pathlib import Path

from collector.access import config as access_config
from collector.aggregator import process as aggregator_process
from collector.client.performance import process_name
from collector.control.desired_state import DesiredState
from collector.control.epochs import Epochs
from collector.control.scheduling import Scheduling
from collector.control.supervisor import Child
from collector.markets.activity import Assessment
from collector.settings.config_file import File
from collector.settings.parts import BUDGET, AggregatorConfig, ServingConfig, connectable
from collector.settings.start_options import StartOptions
from shards import worker
from shards.protocol.settings import Endpoints, ShardConfig, SourceName


class Children:
    """Creates the processes of one run."""

    def __init__(
        self,
        options: StartOptions,
        file: File,
        source: SourceName,
        *,
        folder: Path,
        endpoints: Endpoints,
        desired: DesiredState,
        epochs: Epochs,
        scheduling: Scheduling,
    ) -> None:
        """``folder`` has the sockets between them."""
        self._options = options
        self._file = file
        self._source = source
        self._folder = folder
        self._endpoints = endpoints
        self._desired = desired
        self._epochs = epochs
        self._scheduling = scheduling

    def aggregator(self, state: Path, assessed: Assessment, page: str) -> Child:
        """Return the aggregator, which keeps its ledger in ``state``; ``page`` is the web page."""
        options, folder, desired = self._options, self._folder, self._desired
        starts = itertools.count()

        def config() -> AggregatorConfig:
            listed = {market.market_id for market in desired.markets}
            return AggregatorConfig(
                epoch=self._epochs.next(),
                publish=options.publish,
                pull=f"ipc://{folder}/push",
                link=f"ipc://{folder}/link",
                admin=f"ipc://{folder}/admin",
                admin_remote=options.admin or "",
                own=self._own,
                access=access_config.of_start(options, self._file.access),
                folder=str(folder),
                state="" if state == folder else str(state),
                begins=not next(starts),
                markets=tuple(desired.markets),
                assessed={m: found for m, found in assessed.items() if m in listed},
                assignment=dict(desired.assignment.wanted),
                revision=desired.revision,
                resume_within=self._file.limits.replay_blocks,
                endpoints=self._endpoints,
                every_market=desired.every_market,
                part=options.part or "",
                channels=options.channels,
                web=page,
                source=self._source,
                realtime=self._scheduling.aggregator,
                spin=self._scheduling.spins,
                log_level=options.log_level,
                log_format=options.log_format,
            )

        return Child("aggregator", aggregator_process.main, config)

    @property
    def _own(self) -> str:
        """The endpoint where our own processes read frames, if the public ones require keys."""
        return f"ipc://{self._folder}/frames" if self._options.keys else ""

    @property
    def reads(self) -> str:
        """The endpoint where our own processes read frames."""
        return self._own or connectable(self._options.publish[0])

    def http(self) -> Child:
        """Return the HTTP server."""
        # Only here: it needs the extra.
        from collector.http import process

        options = self._options
        config = ServingConfig(
            http=options.http or "",
            requests=f"ipc://{self._folder}/link",
            publish=self.reads,
            ready_coverage=options.ready_coverage,
            metrics_markets=options.metrics_markets,
            tls=access_config.tls_of(options),
            log_level=options.log_level,
            log_format=options.log_format,
        )
        return Child("http", process.main, lambda: config)

    def recorder(self) -> Child:
        """Return the recorder of `start --record`."""
        # Only here: it needs the extra.
        from collector.archive.recording import recorder

        options = self._options
        config = recorder.RecordConfig(
            to=options.record,
            connect=self.reads,
            endpoints=self._endpoints,
            budget=str(self._folder / BUDGET),
            log_level=options.log_level,
            log_format=options.log_format,
        )
        return Child("record", recorder.main, lambda: config)

    def shard(self, number: int) -> Child:
        """Return a shard; at each start it gets the markets assigned to it at that time."""
        options = self._options

        def config() -> ShardConfig:
            return ShardConfig(
                shard=number,
                epoch=self._epochs.next(),
                source=self._source,
                endpoints=self._endpoints,
                markets=self._desired.of(number),
                channels=options.channels,
                per_market=options.per_market,
                redundancy=options.redundancy,
                push=f"ipc://{self._folder}/push",
                link=f"ipc://{self._folder}/link",
                budget=str(self._folder / BUDGET),
                limits=self._file.limits,
                realtime=self._scheduling.shard,
                spin=self._scheduling.spins,
                log_level=options.log_level,
                log_format=options.log_format,
            )

        return Child(process_name(number), worker.main, config, shard=number)
