"""The control loop: what is meant to run, where each market belongs, and the processes that do it."""
