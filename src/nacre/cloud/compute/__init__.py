"""Compute: flavors, keypairs and servers. A server is an intent, an observation, and nothing in between that is stored."""
