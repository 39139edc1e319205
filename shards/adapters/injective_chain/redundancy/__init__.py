"""Several nodes for one collector: each market is subscribed at all of them, the first copy counts."""
