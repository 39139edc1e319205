"""The aggregator: takes frames from every shard, publishes them, and tracks what both sides have."""
