"""HTTP: probes, the summary, metrics and views, from a process of its own beside the data path."""
