"""Candles of one minute, in SQL: candles.py DIR MARKET"""

import sys

import duckdb

root, market = sys.argv[1:]
query = """
    SELECT date_trunc('minute', ts_event) AS minute,
      arg_min(price, (height, n)) AS open, max(price) AS high,
      min(price) AS low, arg_max(price, (height, n)) AS close,
      sum(quantity) AS volume,
      -- notional is null where it would need more than 18 decimals
      sum(coalesce(notional, (price::DOUBLE * quantity::DOUBLE)::DECIMAL(38, 18))) AS turnover
    FROM read_parquet($1 || '/channel=trades/*/*.parquet')
    WHERE market = $2 AND side = 'buy' -- both sides of a match are there
    GROUP BY minute ORDER BY minute
"""
for row in duckdb.execute(query, [root, market]).fetchall():
    print(*row)
