"""The settings of every part of a collector."""
