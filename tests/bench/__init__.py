"""signalpost beside its peers: the same work, servers and run (`python -m tests.bench`)."""
