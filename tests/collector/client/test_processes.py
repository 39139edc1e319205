"""A reader's process and its publisher: forks, opening again, other versions, two behind one name."""

import logging
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from collector import Book, Subscriber
from collector.settings.parts import requests_endpoint
from tests.collector.client.scripted_publisher import (
    Script,
    delta,
    free_endpoint,
    publishing,
    trades,
)
from tests.collector.client.test_subscriber import INJ, has_subscribed, is_a, opened, until
from tests.system.running import COLLECTOR, eventually

FORKED = """
import asyncio, os, signal, sys
from collector import Book, Subscriber

with Subscriber(sys.argv[1], markets=["INJ-USDT"], channels=["book"]) as subscriber:
    while not isinstance(subscriber.poll().event, Book):
        pass
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        for read in (subscriber.poll, lambda: asyncio.run(anext(subscriber))):
            try:
                read()
            except RuntimeError as error:
                print(error, flush=True)
        subscriber.close()
        with Subscriber(sys.argv[1], markets=["INJ-USDT"], channels=["book"]) as own:
            while not isinstance(own.poll().event, Book):
                pass
        print("read by the child", flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print("ready", flush=True)
    print(subscriber.poll().event.sequence, flush=True)
"""


def test_a_reader_belongs_to_the_process_that_opened_it() -> None:
    """ZeroMQ's sockets do not work after a fork: the child waited for ever."""
    with publishing() as publisher:
        opened(publisher)
        command = [sys.executable, "-W", "ignore", "-c", FORKED, publisher.endpoint]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = [process.stdout.readline().strip() for _ in range(4)]
            publisher.send(INJ, delta(INJ, 101, 2))
            rest = process.stdout.read().strip()
        assert process.returncode == 0
    refused = "this Subscriber was opened before a fork, in another process: open one here"
    assert said == [refused, refused, "read by the child", "ready"]
    assert rest == "2"


def test_a_reader_that_is_opened_again_is_subscribed_again() -> None:
    """Otherwise everything came with the polls of its topics, a second late."""
    with publishing() as publisher:
        opened(publisher)
        subscriber = Subscriber(publisher.endpoint, markets=[INJ], channels=["book"])
        with subscriber:
            until(subscriber, is_a(Book))
            eventually(lambda: has_subscribed(publisher, b"book.INJ-USDT."), within_s=30)
        eventually(lambda: b"\x00book.INJ-USDT." in publisher.subscriptions, within_s=30)
        publisher.subscriptions.clear()
        with subscriber:
            eventually(lambda: has_subscribed(publisher, b"book.INJ-USDT."), within_s=30)
            publisher.send(INJ, delta(INJ, 101, 2))
            [again] = until(subscriber, is_a(Book))
    assert again.event.sequence == 2  # type: ignore[union-attr]


def newer(script: Script) -> bytes:
    """Return a frame of the next version."""
    body = bytearray(script.publish(INJ, trades(INJ, 101))[1])
    body[1] = 2
    return bytes(body)


@pytest.mark.parametrize("command", ["relay", "record"])
def test_a_publisher_of_a_newer_version_ends_a_command_with_a_sentence(
    command: str, tmp_path: Any
) -> None:
    options = {"relay": ("--publish", free_endpoint()), "record": ("--to", str(tmp_path / "a"))}
    with publishing() as publisher:
        opened(publisher)
        with subprocess.Popen(
            [*COLLECTOR, command, "--connect", publisher.endpoint, *options[command]],
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            eventually(lambda: len(publisher.subscriptions) > 0, within_s=60)

            def has_ended() -> bool:
                publisher.send_parts(b"trades.INJ-USDT.", newer(publisher.script))
                return process.poll() is not None

            try:
                eventually(has_ended, within_s=60, every_s=0.2)
            finally:
                process.kill()
            assert process.stderr is not None
            said = process.stderr.read()
    assert process.returncode == 3, said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == (
        f"collector {command}: {publisher.endpoint}: frame version 2, but this subscriber reads "
        "only 1: update this side, or read another publisher"
    )


def test_two_collectors_behind_one_name_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A balancer gives the frames of one and the answers of the other."""
    with publishing() as one, publishing(Script(publisher_epoch=2)) as two:
        for each in (one, two):
            opened(each)
        names = {"connect": one.endpoint, "requests": requests_endpoint(two.endpoint)}
        with (
            Subscriber(**names, markets=[INJ], channels=["trades"]) as subscriber,  # type: ignore[arg-type]
            caplog.at_level(logging.WARNING),
        ):
            heights = iter(range(101, 10_000))

            def told() -> list[str]:
                one.send(INJ, trades(INJ, next(heights)))
                subscriber.poll(0.05)
                return [record.getMessage() for record in caplog.records]

            assert eventually(told, within_s=60) == [
                f"{one.endpoint}: one collector publishes there and another one answers: give each "
                "a name of its own, and read both (docs/cells.md)"
            ]


def test_a_collector_that_is_replaced_is_not_taken_for_two(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with publishing() as publisher:
        opened(publisher)
        with (
            Subscriber(publisher.endpoint, markets=[INJ], channels=["trades"]) as subscriber,
            caplog.at_level(logging.WARNING),
        ):
            for epoch in range(2, 9):
                publisher.script.publisher_epoch = epoch
                publisher.script.sequences.clear()
                asked = len(publisher.asked)
                for height in range(100 * epoch, 100 * epoch + 5):
                    publisher.send(INJ, trades(INJ, height))
                eventually(
                    lambda asked=asked: (
                        subscriber.poll(0.05) is None  # type: ignore[misc]
                        and len(publisher.asked) > asked + 1
                    ),
                    within_s=30,
                )
            assert caplog.records == []


@dataclass
class Echo(Script):
    """Answers every question, and never with what was asked for."""

    def answer(self, request: dict[str, Any]) -> list[bytes]:
        return [msgspec.msgpack.encode({"id": request["id"]})]


@pytest.mark.parametrize(
    "arguments", [("status",), ("markets",), ("tail", "-n", "1"), ("add", "INJ/USDT")]
)
def test_an_answer_that_has_nothing_in_it_is_said(arguments: tuple[str, ...]) -> None:
    with publishing(Echo()) as publisher:
        command = [*COLLECTOR, *arguments, "--connect", publisher.endpoint]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
        subscriber = Subscriber(publisher.endpoint)
        with subscriber, pytest.raises(ValueError, match="has nothing of it"):
            subscriber.status()
    asked = "markets" if arguments == ("markets",) else "status"
    assert done.returncode == 3
    assert done.stderr == (
        f"collector {arguments[0]}: the answer to '{asked}' has nothing of it: a collector of "
        "another version answered, or none\n"
    )
