"""What the aggregator measures and remembers about itself and its shards."""
