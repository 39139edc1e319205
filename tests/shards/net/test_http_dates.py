"""Dates that another side writes into its headers: whatever they are, nothing ends."""

import pytest
from hypothesis import given, strategies as st

from shards.net.cookies import Cookies
from shards.net.http_dates import instant
from shards.net.websocket import retry_after

NO_DATES = (
    "",
    "soon",
    "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT",
    "Mon, 01 Jan 2020 00:00:00 +99999999999999",
    "Mon, 01 Jan 99999 00:00:00 GMT",
)


@pytest.mark.parametrize("text", NO_DATES)
def test_what_is_no_date_is_none(text: str) -> None:
    assert instant(text) is None
    assert retry_after({"Retry-After": text}, 1_000.0) == 0.0


def test_a_date_is_its_instant() -> None:
    text = "Thu, 01 Jan 1970 00:17:00 GMT"
    assert instant(text) == 1_020.0
    assert retry_after({"Retry-After": text}, 1_000.0) == 20.0
    assert retry_after({"Retry-After": text}, 2_000.0) == 0.0
    assert retry_after({"Retry-After": "7"}, 2_000.0) == 7.0


@given(text=st.one_of(st.text(), st.from_regex(r"Mon, \d+ Jan \d+ \d+:\d+:\d+ [+-]\d+")))
def test_any_text_is_taken(text: str) -> None:
    instant(text)
    assert retry_after({"Retry-After": text}, 1_000.0) >= 0.0


@pytest.mark.parametrize("text", NO_DATES)
def test_a_cookie_with_such_an_end_is_kept_for_the_session_or_not_at_all(text: str) -> None:
    cookies = Cookies()
    cookies.learn("host", [f"lb=1; Expires={text}"], 1_000.0)
    assert cookies.header("host", 1_000.0) in ("lb=1", "")
