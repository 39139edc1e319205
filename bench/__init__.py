"""Benches: what the collector costs, beside what its peers cost, on the same payloads."""
