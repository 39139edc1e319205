"""The indexer, for users without a node: streams without blocks, compared with its queries."""
