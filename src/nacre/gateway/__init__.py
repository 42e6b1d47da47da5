"""The server side of the node protocol: host streams, dial-backs, image bytes. The node of this machine comes by a unix socket, those
of others by TLS."""
