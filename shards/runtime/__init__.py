"""One way to be a child process: its logs, its heartbeat, how well its loop runs."""
