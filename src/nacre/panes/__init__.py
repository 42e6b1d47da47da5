"""The panes: one folder per HTTP dialect. Parse, call the cloud, render; nothing else."""
