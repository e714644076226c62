"""Every query there is; each function takes a connection and leaves the commit to its caller."""
