"""What the aggregator knows of markets and shards. Pure."""
