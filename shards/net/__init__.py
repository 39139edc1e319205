"""Connections to other hosts: endpoints, circuit breakers, WebSockets, RPC, TLS, rate limits."""
