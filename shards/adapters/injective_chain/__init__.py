"""The chain itself: its stream over WebSocket and gRPC, its queries, and its record of past blocks."""
