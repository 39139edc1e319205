"""Facts that are not sealed yet: segments on disk, their entries by part, and what is still missing."""
