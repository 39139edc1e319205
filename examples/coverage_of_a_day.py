"""May I use that day? What is missing in it, by market: coverage_of_a_day.py DIR DATE"""

import sys

import duckdb

root, date = sys.argv[1:]
query = """
    SELECT market, sum(due) AS due, sum(missing) AS missing,
      sum(sequences_missing) AS changes_missing, bool_and(provable) AS provable,
      flatten(list(missing_ranges)) AS ranges
    FROM read_parquet($1 || '/coverage/*/*.parquet', hive_partitioning = true)
    WHERE date = $2 GROUP BY market ORDER BY missing DESC, market
"""
for market, due, missing, changes, provable, ranges in duckdb.execute(
    query, [root, date]
).fetchall():
    whole = "whole" if not missing and not changes and provable else "NOT WHOLE"
    spans = ", ".join(f"{one['first']}-{one['last']}" for one in ranges)
    print(market, whole, f"{due - missing} of {due} blocks", spans)
