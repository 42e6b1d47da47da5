"""Builds: images made of a Dockerfile and a context, as the engine's classic builder makes them, over the project's own containers."""
