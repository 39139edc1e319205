"""What every process shares: facts, bytes, channels, control messages. It imports nothing of ours."""
