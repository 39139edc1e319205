"""The way out to other hosts: endpoints and their breakers, WebSockets, RPC, TLS, rate limits."""
