"""Checkpoint and restore of guests by CRIU (https://criu.org): the conversation with it, and the program that holds it."""
