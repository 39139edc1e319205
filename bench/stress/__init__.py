"""
Load until something gives way: ``pytest bench/stress --benchmark-only``.

Every case is a real collector on the simulator, with a subscriber. Each size of shards and markets
gets bursts and floods; then one collector gets twice what it can take, for minutes.
"""
