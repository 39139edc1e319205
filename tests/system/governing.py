"""Change a devnet's market as a real chain does: a proposal, and a vote on it."""

import asyncio
from typing import Any, Final

import grpc

from collector.devnet.accounts import accounts, module_address
from collector.devnet.chain import Sender
from collector.devnet.protos import PROTOS
from collector.verify.chain import Chain
from tests.system.running import Devnet

_TRIES: Final = 40
_gov: Final = PROTOS.package("cosmos.gov.v1")
_exchange: Final = PROTOS.package("injective.exchange.v2")


def pause(node: Devnet, market_id: str) -> None:
    """Have a spot market paused; it is some seconds after this returns."""
    asyncio.run(_pause(node, market_id))


async def _pause(node: Devnet, market_id: str) -> None:
    # The first account holds the whole stake.
    operator = accounts()[0]
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        sender = Sender(operator, channel, node.info["chain_id"])
        submit = _gov.MsgSubmitProposal(
            initial_deposit=[{"denom": "inj", "amount": "10000000"}],
            proposer=operator.address,
            title="pause",
            summary="pause",
        )
        submit.messages.add().Pack(_paused(market_id), type_url_prefix="/")
        await _insist(node, sender, submit)
        query = PROTOS.stub("cosmos.gov.v1.Query", channel)
        proposals: Any = None
        while not (proposals and proposals.proposals):
            await asyncio.sleep(0.1)
            proposals = await query.Proposals(_gov.QueryProposalsRequest())
        vote = _gov.MsgVote(
            proposal_id=proposals.proposals[-1].id,
            voter=operator.address,
            option="VOTE_OPTION_YES",
        )
        await _insist(node, sender, vote)


def _paused(market_id: str) -> Any:
    proposal = _exchange.SpotMarketParamUpdateProposal(
        title="pause", description="pause", market_id=market_id, status="Paused"
    )
    return _exchange.MsgSpotMarketParamUpdate(sender=module_address("gov"), proposal=proposal)


async def _insist(node: Devnet, sender: Sender, message: Any) -> None:
    """Send until the node takes it: the trader uses the same account, and its sequence."""
    chain = Chain(node.rpc, node.grpc)
    try:
        for _ in range(_TRIES):
            if await sender.send(message, height=chain.latest()):
                return
    finally:
        chain.close()
    raise AssertionError(f"not taken {_TRIES} times: {message}")
