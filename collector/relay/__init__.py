"""A relay: what cells publish, published once more, for readers that they need not know of."""
