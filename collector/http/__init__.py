"""HTTP: probes, the summary, metrics and views, in a separate process beside the data path."""
