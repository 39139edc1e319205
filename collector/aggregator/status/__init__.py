"""Views of the whole aggregator: the summary, market rows, metrics, one sample per second. Pure."""
