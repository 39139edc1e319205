"""
The simulator: a seeded, synthetic Injective exchange that serves the real protocols, with faults.

Unlike the devnet it needs no node, scales to thousands of markets, knows its own truth, and
misbehaves on demand. ``python -m tests.simulator --help`` runs it by hand.
"""
