"""What every child process needs: main function, logs, heartbeat, loop monitor."""
