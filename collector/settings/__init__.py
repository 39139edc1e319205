"""What every part of a collector is told when it starts."""
