"""Many hosts: cells placed, restarted and moved by Ray (docs/cluster.md)."""
