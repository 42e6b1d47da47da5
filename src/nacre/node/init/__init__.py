"""What a guest's first moments need: a script that runs as its first process, and what the node writes for it to run."""
