"""A tree of relays with keys, end to end: the short form of `tests.system.relay_tree`."""

import time
from pathlib import Path

from collector import Subscriber, Trades
from collector.access import authorized_file
from tests.system import relay_tree
from tests.system.running import eventually


def test_every_reader_of_every_relay_has_everything_within_its_rights(tmp_path: Path) -> None:
    with relay_tree.tree(tmp_path, chained=True) as (venue, cell, relays):
        found = relay_tree.run(venue, cell, relays, readers=60, seconds=4)
        assert found.readers == 60
        assert found.facts
        assert not found.wrong, found
        # The second relay reads the first one: rights and revocation are those at its own door.
        far = relays[1]
        bob = far.door.admit("bob", "trades.*")
        with Subscriber(far.publish, channels=["book", "trades"], keys=str(bob)) as reader:
            topics: set[str] = set()
            while len(topics) < 3:
                received = reader.poll(60.0)
                assert received is not None
                if isinstance(received.event, Trades):
                    topics.add(received.topic)
                assert received.channel != "book" or not hasattr(received.event, "bids")
            authorized_file.remove(far.door.file, "bob")
            # What is under way may still come; then nothing does.
            eventually(lambda: not _has_trades(reader), within_s=30, what="no trades any more")


def _has_trades(reader: Subscriber) -> bool:
    """Return whether trades come within three blocks."""
    deadline = time.monotonic() + 1.5
    while (left_s := deadline - time.monotonic()) > 0:
        received = reader.poll(left_s)
        if received is not None and isinstance(received.event, Trades):
            return True
    return False
