"""Spread and depth of one market over time: spread_and_depth.py DIR MARKET [EVERY_BLOCKS]"""

import sys

import collector

root, market, *rest = sys.argv[1:]
every = int(rest[0]) if rest else 100
known = collector.read(root, "coverage", markets=market, holes="allow").arrow
first = min(known["first_height"].to_pylist())
last = max(known["last_height"].to_pylist())
print("height spread bid_depth ask_depth")
for height in range(first + every - 1, last + 1, every):
    try:
        book = collector.book_at(root, market, height)
    except LookupError as error:  # changes before it are missing: the message names them
        print(height, error)
        continue
    if book.bids and book.asks:
        spread = book.asks[0][0] - book.bids[0][0]
        depths = (sum(quantity for _, quantity in side[:10]) for side in (book.bids, book.asks))
        print(height, spread, *depths)
