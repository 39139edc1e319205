"""When a replay may begin: once there are readers, and each has what it joins with."""

from collector.archive.replay.joining import Joining


def test_nothing_begins_without_a_reader() -> None:
    joining = Joining()
    joining.asked(b"status", b"\x81\xa3ask\xa6status", 1.0)
    assert not joining.is_over(100.0)


def test_a_reader_that_is_slow_to_ask_is_waited_for() -> None:
    joining = Joining()
    joining.subscribed(1.0)
    assert not joining.is_over(4.0), "it will ask what there is"
    joining.asked(b"one", b"\x81\xa3ask\xa6topics", 4.0)
    joining.asked(b"one", b"\x81\xa3ask\xa6replay", 4.5)
    assert not joining.is_over(5.1)
    assert joining.is_over(5.3)


def test_a_socket_that_never_asks_is_given_some_seconds() -> None:
    joining = Joining()
    joining.subscribed(1.0)
    assert not joining.is_over(5.9)
    assert joining.is_over(6.1)


def test_what_readers_ask_each_second_holds_nothing_up() -> None:
    joining = Joining()
    joining.subscribed(0.1)
    for tenth in range(1, 30):
        # Three readers in turn: there is no quiet moment.
        reader = b"%d" % (tenth % 3)
        joining.asked(reader, b"\x81\xa3ask\xa6topics", tenth / 10)
    assert joining.is_over(1.1)
