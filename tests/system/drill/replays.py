"""A5 and A6: a lost block's record that a node does not keep, or that is too large to take."""

from typing import Any, Final

from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.system.drill.registry import Stage, drill
from tests.system.running import Running, collector, eventually

_PATIENT: Final = "[limits]\nmute_floor_s = 30.0\n"
"""On a busy machine blocks may be late: they are not to be lost, and fetched, as well."""


@drill("A5", "a node that keeps no block results")
def no_results(stage: Stage) -> None:
    """It is named with the setting at once; the market continues, and the loss is announced."""
    with simulator("--markets", "6", "--block-time", "0.3") as exchange:
        config = exchange.config(stage.folder, extra=_PATIENT)
        with collector(stage.folder, "--config", str(config)) as running:
            running.await_live()
            exchange.inject(faults.NoResults(text="not persisting"))
            _lose_blocks(stage, exchange, "the node keeps no block results, and 4 blocks are lost")
            stage.await_(
                "said",
                "the log names the setting, discard_abci_responses",
                lambda: "discard_abci_responses" in running.log,
                within_s=60,
            )
            _goes_on(stage, running, within_s=60)
            log = running.log
    assert log.count("keeps no block results") == 1, log


@drill("A6", "a lost block whose results are 70 MB")
def huge_results(stage: Stage) -> None:
    """It is named with the limit at once, not downloaded again and again."""
    with simulator("--markets", "6", "--block-time", "0.3") as exchange:
        config = exchange.config(stage.folder, extra=_PATIENT)
        with collector(stage.folder, "--config", str(config)) as running:
            running.await_live()
            exchange.inject(faults.HugeResults(size=70_000_000))
            _lose_blocks(stage, exchange, "4 blocks are lost, each of 70 MB in the node's record")
            stage.await_(
                "said",
                "the log names the limit, limits.message_bytes",
                lambda: "limits.message_bytes" in running.log,
                within_s=60,
            )
            _goes_on(stage, running, within_s=60)


def _lose_blocks(stage: Stage, exchange: Simulator, text: str) -> None:
    exchange.inject(faults.HeightJump(blocks=4))
    stage.broke(text)


def _goes_on(stage: Stage, running: Running, *, within_s: float) -> None:
    """All markets are live again, and the unavailable blocks are named."""

    def named() -> dict[str, Any] | None:
        status = running.status()
        return status if status and status["blocks"]["missing"] else None

    stage.await_("said", "the summary counts missing blocks", named, within_s=within_s)
    eventually(lambda: _live(running), within_s=within_s, what="all live")
    stage.note("healed", "every market is live; its gap stays open with the heights")
    status = running.status()
    lengths = {last - first + 1 for h in status["holes"] for first, last in h["heights"]}
    assert lengths == {4}, status["holes"]
    assert status["completeness"] < 1.0


def _live(running: Running) -> bool:
    status = running.status()
    return bool(status) and status["coverage"]["now"] == 1.0
