"""`collector doctor`: can this machine, with this network, collect? Nothing is changed."""
