"""The control loop: the desired state, the placement of markets, and the processes."""
