"""Real processes, the real node, real sockets on loopback."""
