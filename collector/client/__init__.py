"""Reading a running collector: the requests, the subscriber, and what it hands out."""
