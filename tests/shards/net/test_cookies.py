"""The balancer's cookie: kept, sent back, shared, dropped."""

import pytest

from shards.net.cookies import Cookies


def test_a_cookie_is_sent_back_without_what_was_only_said_to_us() -> None:
    cookies = Cookies()
    cookies.learn("a", ["lb=abc123; Path=/; HttpOnly"], now=0.0)
    assert cookies.header("a", now=1e9) == "lb=abc123"


def test_the_last_of_a_name_stays_and_others_beside_it() -> None:
    cookies = Cookies()
    cookies.learn("a", ["lb=1; Path=/", "zone=x"], now=0.0)
    cookies.learn("a", ["lb=2; Path=/"], now=0.0)
    assert sorted(cookies.header("a", now=0.0).split("; ")) == ["lb=2", "zone=x"]


def test_answers_without_a_cookie_leave_it() -> None:
    cookies = Cookies()
    cookies.learn("a", ["lb=1"], now=0.0)
    cookies.learn("a", [], now=0.0)
    assert cookies.header("a", now=0.0) == "lb=1"


@pytest.mark.parametrize(
    "attribute", ["Max-Age=60", "Expires=Thu, 01 Jan 1970 00:01:00 GMT", "max-age=60; Path=/"]
)
def test_a_cookie_that_has_ended_is_not_sent(attribute: str) -> None:
    cookies = Cookies()
    cookies.learn("a", [f"GCLB=x; {attribute}"], now=0.0)
    assert cookies.header("a", now=59.0) == "GCLB=x"
    assert cookies.header("a", now=61.0) == ""


def test_a_host_without_its_own_gets_the_newest_of_its_network() -> None:
    cookies = Cookies()
    cookies.learn("stream", ["lb=1"], now=0.0)
    cookies.learn("query", ["lb=2"], now=0.0)
    assert cookies.header("rpc", now=0.0) == "lb=2"
    cookies.learn("stream", ["lb=3"], now=0.0)
    assert cookies.header("rpc", now=0.0) == "lb=3"
    assert cookies.header("query", now=0.0) == "lb=2"


def test_repeated_failures_drop_it_and_nobody_elses_takes_its_place() -> None:
    cookies = Cookies()
    cookies.learn("a", ["lb=1"], now=0.0)
    cookies.learn("b", ["lb=2"], now=0.0)
    cookies.failed("a")
    cookies.failed("a")
    cookies.learn("a", [], now=0.0)  # an answer between them: not in a row
    cookies.failed("a")
    cookies.failed("a")
    assert cookies.header("a", now=0.0) == "lb=1"
    cookies.failed("a")
    assert cookies.header("a", now=0.0) == ""
    assert cookies.header("b", now=0.0) == "lb=2"
    cookies.learn("a", ["lb=4"], now=0.0)
    assert cookies.header("a", now=0.0) == "lb=4"


@pytest.mark.parametrize(
    "text", ["", "nonsense", "=;=", "lb", "\x00=\x01", "lb=1; Max-Age=x", "lb=1; Expires=soon"]
)
def test_what_is_no_cookie_harms_nobody(text: str) -> None:
    cookies = Cookies()
    cookies.learn("a", [text], now=0.0)
    assert cookies.header("a", now=0.0) in ("", "lb=1")
