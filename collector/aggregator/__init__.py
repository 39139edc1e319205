"""The aggregator: frames in from every shard, out to every subscriber, and what is known of both."""
