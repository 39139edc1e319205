"""The pure core of a shard: payloads in, records and requests out. No I/O, no clock, no log."""
