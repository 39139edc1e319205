"""
The web page: a live view of a running collector, in any browser.

It is a separate process and an ordinary subscriber, so it is not on the data path. One poll of the
aggregator serves all clients (`polling`); its results are kept once (`view_model`, `book_view`).
Each browser receives what changed since its last message, at most five times a second (`client`).
"""
