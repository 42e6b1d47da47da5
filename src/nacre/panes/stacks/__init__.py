"""Tutum's REST API, and Docker Cloud's, as far as it is about stacks, services, containers and triggers."""
