"""What tidies a sealed archive: compaction and pruning."""
