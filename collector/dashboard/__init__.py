"""Views of a running collector, for people."""
