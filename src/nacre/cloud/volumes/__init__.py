"""Named volumes: what outlives the containers that use it. They lie on a host, and containers that use one land there."""
