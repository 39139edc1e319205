"""
Change a devnet's market as a real chain does: a proposal, and a vote on it.

A program of its own: signing needs all of injective-py, and the tests' own process has
loaded its stubs without the rest (shards/adapters/stubs.py).
"""

import asyncio
import subprocess
import sys
from typing import Any, NamedTuple

from tests.system.running import Devnet


def pause(node: Devnet, market_id: str) -> None:
    """Have a spot market paused; it is some seconds after this returns."""
    subprocess.run(
        [
            *(sys.executable, "-m", "tests.system.governing"),
            *(node.grpc, node.rpc, node.info["chain_id"], market_id),
        ],
        check=True,
        timeout=60,
    )


class _Node(NamedTuple):
    grpc: str
    rpc: str
    chain_id: str


_TRIES = 40


async def _pause(node: _Node, market_id: str) -> None:
    import grpc
    from pyinjective.proto.cosmos.base.v1beta1.coin_pb2 import Coin
    from pyinjective.proto.cosmos.gov.v1 import gov_pb2, query_pb2, query_pb2_grpc, tx_pb2

    from collector.devnet.accounts import accounts
    from collector.devnet.chain import Sender

    # The first account holds the whole stake.
    operator = accounts()[0]
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        sender = Sender(operator, channel, node.chain_id)
        submit = tx_pb2.MsgSubmitProposal(
            initial_deposit=[Coin(denom="inj", amount="10000000")],
            proposer=operator.address,
            title="pause",
            summary="pause",
        )
        submit.messages.add().Pack(_paused(market_id), type_url_prefix="/")
        await _insist(node, sender, submit)
        query = query_pb2_grpc.QueryStub(channel)
        proposals: Any = None
        while not (proposals and proposals.proposals):
            await asyncio.sleep(0.1)
            proposals = await query.Proposals(query_pb2.QueryProposalsRequest())
        vote = tx_pb2.MsgVote(
            proposal_id=proposals.proposals[-1].id,
            voter=operator.address,
            option=gov_pb2.VOTE_OPTION_YES,
        )
        await _insist(node, sender, vote)


def _paused(market_id: str) -> Any:
    from pyinjective.proto.injective.exchange.v2 import (
        market_pb2,
        proposal_pb2,
        tx_pb2 as exchange_pb2,
    )

    from collector.devnet.accounts import module_address

    proposal = proposal_pb2.SpotMarketParamUpdateProposal(
        title="pause",
        description="pause",
        market_id=market_id,
        status=market_pb2.MarketStatus.Paused,
    )
    return exchange_pb2.MsgSpotMarketParamUpdate(sender=module_address("gov"), proposal=proposal)


async def _insist(node: _Node, sender: Any, message: Any) -> None:
    """Send until the node takes it: the trader uses the same account, and its sequence."""
    from collector.verify.chain import Chain

    chain = Chain(node.rpc, node.grpc)
    try:
        for _ in range(_TRIES):
            if await sender.send(message, height=chain.latest()):
                return
    finally:
        chain.close()
    raise AssertionError(f"not taken {_TRIES} times: {message}")


if __name__ == "__main__":
    asyncio.run(_pause(_Node(*sys.argv[1:4]), sys.argv[4]))
