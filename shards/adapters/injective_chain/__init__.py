"""Decoders: payload bytes to events. Pure: no I/O, no clock, no state."""
