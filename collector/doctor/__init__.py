"""`collector doctor`: is this machine, and is this network, fit to collect? Nothing is changed."""
