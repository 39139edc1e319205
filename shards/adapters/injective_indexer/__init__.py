"""The indexer, for those who reach no node: streams without blocks, held against its queries."""
