"""One folder per upstream, behind one interface."""
