"""Change a devnet's market as a real chain does: a proposal, and a vote on it."""

import asyncio
from typing import Any

import grpc
from google.protobuf.message import Message
from pyinjective.proto.cosmos.base.v1beta1.coin_pb2 import Coin
from pyinjective.proto.cosmos.gov.v1 import gov_pb2, query_pb2, query_pb2_grpc, tx_pb2
from pyinjective.proto.injective.exchange.v2 import market_pb2, proposal_pb2, tx_pb2 as exchange_pb2

from collector.devnet.accounts import accounts, module_address
from collector.devnet.chain import Sender
from collector.verify.chain import Chain
from tests.system.running import Devnet

_DEPOSIT = Coin(denom="inj", amount="10000000")
_TRIES = 40


def pause(node: Devnet, market_id: str) -> None:
    """Have a spot market paused; it is some seconds after this returns."""
    asyncio.run(_pause(node, market_id))


async def _pause(node: Devnet, market_id: str) -> None:
    # The first account holds the whole stake.
    operator = accounts()[0]
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        sender = Sender(operator, channel, node.info["chain_id"])
        submit = tx_pb2.MsgSubmitProposal(
            initial_deposit=[_DEPOSIT], proposer=operator.address, title="pause", summary="pause"
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


def _paused(market_id: str) -> Message:
    proposal = proposal_pb2.SpotMarketParamUpdateProposal(
        title="pause",
        description="pause",
        market_id=market_id,
        status=market_pb2.MarketStatus.Paused,
    )
    message: Message = exchange_pb2.MsgSpotMarketParamUpdate(
        sender=module_address("gov"), proposal=proposal
    )
    return message


async def _insist(node: Devnet, sender: Sender, message: Message) -> None:
    """Send until the node takes it: the trader uses the same account, and its sequence."""
    chain = Chain(node.rpc, node.grpc)
    try:
        for _ in range(_TRIES):
            if await sender.send(message, height=chain.latest()):
                return
    finally:
        chain.close()
    raise AssertionError(f"not taken {_TRIES} times: {message}")
