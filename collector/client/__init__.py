"""Reading what a collector publishes: a subscriber that heals itself, and `collector tail`."""
