"""The aggregator's measurements of itself and its shards."""
