"""The Docker pane: the Engine API (https://docs.docker.com/reference/api/engine/) of one project over the whole cloud."""
