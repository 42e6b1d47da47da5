"""The server side of the node protocol: host streams, dial-backs, image bytes. Nodes come by the unix socket of this machine."""
