"""What all processes share: events, frames, channels, control messages. Imports nothing of ours."""
