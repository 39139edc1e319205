"""Networks, the markets that they list, and how active those are."""
