"""
How tones look, and what stands for a market's state. Pure.

The colours are those of Okabe and Ito, which people who see fewer colours tell apart; and
each state also has a mark of its own, so that nothing is lost without any colour.
"""

from typing import Final

MARKS: Final = {"stale": "X", "failed": "F", "syncing": "S", "pending": "P", "inactive": "-"}
"""Of a market that is not live."""
LIVE_MARKS: Final = "░▒▓█"
"""Of a live market, from quiet to busy."""
STATES: Final = ("failed", "stale", "pending", "syncing", "live", "inactive")
"""From what needs a look to what does not."""

LOOKS: Final = {
    "live": "#00c896",
    "live0": "#2f8f74",
    "live1": "#00a67c",
    "live2": "#00c896",
    "live3": "#5cffd2",
    "syncing": "bold #56b4e9",
    "pending": "bold #f0e442",
    "stale": "bold #ffffff on #c24a00",
    "failed": "bold #ffffff on #a8477f",
    "inactive": "#808890",
    "title": "bold #ffffff",
    "label": "#8a939c",
    "key": "bold #56b4e9",
    "good": "#00c896",
    "warn": "bold #f0a030",
    "bad": "bold #ffffff on #c24a00",
    "section": "#c6ced6 on #262c33",
    "cursor": "reverse",
    "spark": "#4792bd",
    "bid": "#56b4e9",
    "ask": "#e69f00",
    "bid-bar": "#275673",
    "ask-bar": "#6b4a06",
}
"""As rich styles; whatever is not here looks like ordinary text."""


def mark(state: str, level: int) -> str:
    """Return the one character that stands for a market."""
    return LIVE_MARKS[level] if state == "live" else MARKS.get(state, "?")


def tone_of(state: str, level: int) -> str:
    """Return the tone of a market's mark."""
    return f"live{level}" if state == "live" else state
