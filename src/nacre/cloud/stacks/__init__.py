"""Stacks: services with replicas over the project's containers, kept at what was asked by a reconciler. Tutum's model, without its agents."""
