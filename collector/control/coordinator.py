"""
The coordinator: discover, assign, supervise. It composes everything and has no hot path.

::

    startup   runtime folder, devnet if asked for, discovery, assignment
    run       reconcile the children, query the aggregator's state once a second
    shutdown  last summary, shards drain, aggregator, devnet
"""

import contextlib
import logging
import multiprocessing.connection
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from collector.aggregator.endpoints import check_free, check_one_free
from collector.client.requests import RequestClient
from collector.client.summary import Summary
from collector.control import announcements, initial_placement
from collector.control.aggregator_view import AggregatorView
from collector.control.children import Children
from collector.control.controller import Controller
from collector.control.desired_state import DesiredState, Selection
from collector.control.embedded_node import EmbeddedDevnet
from collector.control.epochs import Epochs
from collector.control.launch import Launch, spawn
from collector.control.placement import Assignment
from collector.control.runtime_folder import check_descriptors, runtime_folder
from collector.control.scheduling import Scheduling
from collector.control.signals import Interrupted, Interruptible, Signals
from collector.control.state_folder import NONE, open_state
from collector.control.supervisor import Child, Supervisor
from collector.control.systemd import ServiceManager
from collector.http import address as http_address
from collector.markets import activity, assessment, discovery, networks, selection
from collector.markets.activity import Assessment
from collector.markets.listing import Listing
from collector.markets.parts import Part
from collector.settings.config_file import File
from collector.settings.parts import (
    BUDGET,
)
from collector.settings.start_options import StartOptions
from collector.settings.wording import plural
from shards.adapters import registry
from shards.net.access import Access
from shards.protocol.channels import CHAIN_WIDE
from shards.protocol.errors import ConfigError, SourceError
from shards.protocol.settings import (
    CHAIN,
    Endpoints,
    Market,
)
from shards.runtime.exit_codes import EXIT_BELOW, EXIT_BUG, EXIT_OK
from shards.runtime.saved import SavedFile

log = logging.getLogger(__name__)

_TURN_S: Final = 0.5
_BUSY_S: Final = 0.1
"""Interval while a command is being carried out."""
_DRAIN_S: Final = 5.0


class Coordinator:
    """One run of `collector start`, from its options to its summary."""

    def __init__(
        self,
        options: StartOptions,
        file: File,
        *,
        show: Callable[[Summary], None],
        announce: Callable[[str], None],
        views: Sequence[Callable[[str], Child]] = (),
        page: str = "",
        launch: Launch = spawn,
    ) -> None:
        """
        Args:
            options: The options of the run.
            file: The endpoints, limits and patience of the configuration file.
            show: Called with each summary.
            announce: Called with each one-time message.
            views: Processes that only read, supervised like the rest; each is created with the
                endpoint where it reads frames.
            page: The address of the web page that one of them serves.
            launch: How a process is started.

        """
        self._options = options
        self._file = file
        self._part = _part_of(options)
        self._source = options.source or networks.source(options.network, file)
        self._page = page
        self._views = views
        self._launch = launch
        self._show = show
        self._announce = announce
        self._manager = ServiceManager()
        self._aggregator = AggregatorView(options.record, self._manager)

    def run(self) -> tuple[int, Summary | None]:
        """
        Collect until the duration is over or a signal arrives: ``(exit code, summary)``.

        The summary is None if nothing ran.

        Raises:
            ConfigError: If the options cannot be carried out.

        """
        with contextlib.ExitStack() as stack:
            signals = stack.enter_context(Signals())
            try:
                check_descriptors(self._options.shards)
                scheduling = Scheduling(self._file.processes, self._options.shards)
                folder = stack.enter_context(runtime_folder())
                # First, because it waits for the processes that a killed collector left running.
                with signals.interruptible():
                    state = stack.enter_context(self._state(folder))
                check_free(self._options.publish)
                if self._options.http:
                    http_address.check(self._options.http)
                if self._options.admin:
                    check_one_free(self._options.admin)
                epochs = Epochs(SavedFile(state / "epochs"))
                endpoints = self._endpoints(stack, signals.interruptible)
                access = registry.open_access(endpoints, str(folder / BUDGET))
                stack.callback(access.close)
                self._announce(
                    announcements.asking(
                        networks.title(self._options.network, self._file), endpoints
                    )
                )
                with signals.interruptible():
                    found = discovery.discover(endpoints, access)
                    assessed = self._assess(endpoints, access, found)
                desired = self._desired(found, assessed, scheduling)
                made = Children(
                    self._options,
                    self._file,
                    self._source,
                    folder=folder,
                    endpoints=endpoints,
                    desired=desired,
                    epochs=epochs,
                    scheduling=scheduling,
                )
                aggregator = made.aggregator(state, assessed, self._page)
                supervisor = self._compose(made, aggregator, desired.assignment.shards, scheduling)
                every_s = self._file.supervision.listing_s
                listing = Listing(endpoints, access, every_s=every_s)
                controller = Controller(desired, listing, supervisor, made.shard)
                if signals.stop:
                    raise Interrupted
            except Interrupted:
                log.info("stopped before anything ran")
                return EXIT_OK, None
            try:
                self._serve(supervisor, signals, f"ipc://{folder}/link", controller, scheduling)
            except Interrupted:
                return EXIT_BUG, self._aggregator.summary
        return self._exit_code(), self._aggregator.summary

    @property
    def _has_own_devnet(self) -> bool:
        """Whether a devnet starts and ends with this run; a network may have that name too."""
        return self._options.network == "devnet" and "devnet" not in self._file.networks

    # ---- startup --------------------------------------------------------------------

    def _state(self, folder: Path) -> contextlib.AbstractContextManager[Path]:
        options = self._options
        return open_state(
            options.state or (NONE if self._has_own_devnet else None),
            options.network,
            options.publish[0],
            tells_blocks=not registry.adapter(self._source).unprovable,
            is_lasting=not self._has_own_devnet,
            fallback=folder,
        )

    def _endpoints(self, stack: contextlib.ExitStack, interruptible: Interruptible) -> Endpoints:
        options = self._options
        if self._has_own_devnet:
            self._announce("starting a devnet: a real node with real trading, about ten seconds")
            node = EmbeddedDevnet(
                spot=options.devnet_spot,
                perp=options.devnet_perp,
                options=options.devnet_options,
                interruptible=interruptible,
            )
            return stack.enter_context(node).endpoints()
        return networks.endpoints(options.network, self._file, self._source)

    def _assess(self, endpoints: Endpoints, access: Access, found: list[Market]) -> Assessment:
        """Assess how active the markets are; without an answer they can be collected, not selected."""
        try:
            return assessment.assess(endpoints, access, found)
        except SourceError as error:
            sentence = f"the markets' activity is not available: {error}"
            if self._options.min_activity or self._options.top:
                raise ConfigError(f"{sentence}; leave out --min-activity and --top") from None
            log.warning("%s", sentence)
            return {}

    def _desired(
        self, found: list[Market], assessed: Assessment, scheduling: Scheduling
    ) -> DesiredState:
        options = self._options
        markets = self._choose(found, assessed)
        is_empty = not markets
        provable = not registry.adapter(self._source).unprovable
        if not CHAIN_WIDE.isdisjoint(options.channels) or (is_empty and provable):
            # The chain's feed is assigned, resumed and handed over like a market. A part without a
            # market follows it, so that the trade proof over parts knows that it counted nothing.
            markets, found = [*markets, CHAIN], [*found, CHAIN]
        # Most active first: they are subscribed, and their snapshots fetched, first.
        ids = [market.market_id for market in activity.liveliest_first(markets, assessed)]
        weights = activity.weights(markets, assessed)
        shards = min(options.shards, max(1, len(ids)))
        parts = initial_placement.assign(ids, shards=shards, weights=weights) if ids else [()]
        shard_of = {market_id: shard for shard, part in enumerate(parts) for market_id in part}
        network = networks.title(options.network, self._file)
        self._announce(announcements.started(options, network, markets, assessed, parts))
        if is_empty:
            every_s = self._file.supervision.listing_s
            self._announce(announcements.waiting(str(self._part), every_s))
        self._announce(announcements.how_to_look(options, self._page))
        return DesiredState(
            found,
            Assignment(
                frozenset(range(shards)),
                {market_id: shard_of[market_id] for market_id in ids},
            ),
            Selection(
                options.markets,
                options.types,
                # A new market's activity is not known yet.
                follows=not (options.min_activity or options.top),
                part=self._part,
            ),
            scheduling.limits(self._file.supervision),
            weights=weights,
            check_shards=scheduling.check_shards,
        )

    def _choose(self, found: list[Market], assessed: Assessment) -> list[Market]:
        options = self._options
        patterns = options.markets
        chosen = selection.choose(found, patterns, options.types)
        chosen = activity.choose(chosen, assessed, least=options.min_activity, top=options.top)
        whole, chosen = len(chosen), self._part.of(chosen)
        if not chosen and (options.min_activity or options.top):
            raise ConfigError(
                f"--part {self._part}: none of the {plural(whole, 'market')} chosen is in this part, "
                "and with --min-activity or --top no later one is added"
            )
        # How many markets a part has is not for its user to say.
        if options.shards > len(chosen) and self._part.count == 1:
            raise ConfigError(
                f"--shards {options.shards} is more than the {plural(len(chosen), 'market')} chosen: "
                "a shard without a market has nothing to do"
            )
        return chosen

    def _compose(
        self,
        made: Children,
        aggregator: Child,
        shards: Collection[int],
        scheduling: Scheduling,
    ) -> Supervisor:
        options = self._options
        children = [aggregator, *(made.shard(number) for number in sorted(shards))]
        if options.http:
            children.append(made.http())
        if options.record:
            children.append(made.recorder())
        children += [view(made.reads) for view in self._views]
        launch = scheduling.placing(self._launch)
        return Supervisor(children, self._file.supervision, launch)

    # ---- run ------------------------------------------------------------------------

    def _serve(
        self,
        supervisor: Supervisor,
        signals: Signals,
        link: str,
        controller: Controller,
        scheduling: Scheduling,
    ) -> None:
        options = self._options
        began = time.monotonic()
        # Not the public endpoint: if ours could not be bound, another collector answers there.
        client = RequestClient(link)
        try:
            if not signals.stop:
                supervisor.reconcile()
            while not signals.stop:
                self._aggregator.ask(client, supervisor, controller, within_s=0.2)
                if self._aggregator.summary is not None:
                    self._show(self._aggregator.summary)
                if options.duration is not None and time.monotonic() - began > options.duration:
                    break
                with scheduling.urgent():
                    multiprocessing.connection.wait(
                        [*supervisor.sentinels(), signals.reader],
                        timeout=_BUSY_S if controller.is_busy else _TURN_S,
                    )
                    if not signals.stop:
                        supervisor.reconcile()
            # Request the final summary while everything still runs.
            self._aggregator.ask(client, supervisor, controller, within_s=2.0)
        finally:
            try:
                if not signals.forced:
                    self._shutdown(supervisor)
            finally:
                if signals.forced:
                    supervisor.kill()
                client.close()

    def _shutdown(self, supervisor: Supervisor) -> None:
        """Stop the shards first, so that the aggregator still receives their frames."""
        self._manager.stopping()
        shards = [name for name in supervisor.children if name != "aggregator"]
        supervisor.stop(shards, within_s=_DRAIN_S)
        supervisor.stop(["aggregator"], within_s=_DRAIN_S)

    def _exit_code(self) -> int:
        wanted = self._options.min_coverage
        if wanted is None:
            return EXIT_OK
        summary = self._aggregator.summary
        if summary is not None and (stale_s := summary.away_s):
            log.error(
                "coverage is unknown: the aggregator has not answered for %.1f s; "
                "--min-coverage %.4f cannot be confirmed", stale_s, wanted,
            )  # fmt: skip
            return EXIT_BELOW
        reached = summary.coverage.now if summary is not None else 0.0
        if summary is None or not summary.covers(wanted):
            log.error("coverage %.4f is below --min-coverage %.4f", reached, wanted)
            return EXIT_BELOW
        return EXIT_OK


def _part_of(options: StartOptions) -> Part:
    """
    Return the part of the markets to collect.

    Raises:
        ConfigError: If it is not one.

    """
    try:
        return Part.parse(options.part) if options.part else Part()
    except ValueError as error:
        raise ConfigError(f"part: {error}") from None
