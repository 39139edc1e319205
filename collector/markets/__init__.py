"""Which networks there are, which markets they list, and how active those are."""
