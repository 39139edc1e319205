"""What fills an archive: the recorder, the blocks that it fetches, and backfill."""
