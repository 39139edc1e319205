"""A relay republishes the events of cells, for readers that the cells need not know."""
