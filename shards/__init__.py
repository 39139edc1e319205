"""One shard process, from the exchange's socket to a ZeroMQ PUSH, and the protocol all share."""
