"""Benches: the cost of the collector and of its peers, on the same payloads."""
