"""Powerstrip, protocol 1: adapters see and change what passes between Docker's clients and an engine, ours or any other."""
