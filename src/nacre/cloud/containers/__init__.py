"""Containers: what Docker's pane knows of a server beyond what compute knows. One resource, two panes."""
