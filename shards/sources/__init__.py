"""Sources: sockets, one module per upstream. Here every transport error becomes a SourceError."""
