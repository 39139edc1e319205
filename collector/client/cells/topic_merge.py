"""
One topic of several cells: which event is delivered, which is a copy, and which must wait.

An event that continues what was delivered passes at once, whichever cell has it first; the second
copy is dropped. If facts are missing before an event (its cell lost them), the event waits until no
other cell can still deliver them: each has sent everything up to there, or is silent. Facts that
all cells lost become a `Lost`. How facts are told apart is the channel's row
(shards/protocol/channels.py)::

    SEQUENCE, a book    BookMerge     a jump in the sequence leaves changes out
    HEIGHT, TRADES      BlockMerge    a `Lost`, or a gap of the market, leaves blocks out
    states              StateMerge    the newest replaces the older ones: nothing waits
    VALUE               ValueMerge    each cell goes through the same values

Pure.
"""

from collector.client.cells.block_merge import BlockMerge
from collector.client.cells.book_merge import BookMerge
from collector.client.cells.cell import Cells
from collector.client.cells.merge import Merge
from collector.client.cells.state_merge import StateMerge
from collector.client.cells.value_merge import ValueMerge
from collector.client.topic_filter import split
from shards.protocol.channels import BY_NAME, Channel, Identity


def merge_of(topic: str, cells: Cells) -> Merge:
    """Return the merge that a topic's channel needs."""
    row: Channel = BY_NAME[split(topic)[0]]
    if row.identity is Identity.VALUE:
        return ValueMerge(topic, cells)
    if row.identity is Identity.SEQUENCE and not row.is_state:
        return BookMerge(topic, cells)
    if row.identity is Identity.SEQUENCE or not row.is_replayed:
        return StateMerge(topic, cells)
    return BlockMerge(topic, cells)
