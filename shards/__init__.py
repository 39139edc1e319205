"""The lower half: one process, from the exchange's socket to a ZeroMQ PUSH."""
