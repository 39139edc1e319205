"""The chain itself: its stream over WebSocket and gRPC, its queries, its record of past blocks."""
