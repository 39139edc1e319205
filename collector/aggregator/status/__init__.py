"""What is said of the whole: the summary, the rows of markets, metrics, one sample a second. Pure."""
