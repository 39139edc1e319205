"""Dates in HTTP headers, which another side writes. Pure."""

import email.utils


def instant(text: str) -> float | None:
    """Return the instant that a header names, in seconds since the epoch; None if it names none."""
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        # Overflow: a number that no date has, such as a day of twenty digits.
        return None
