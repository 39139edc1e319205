"""The aggregator's state of markets and shards. Pure."""
