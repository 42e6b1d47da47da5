"""The API processes of one cloud: which there are, whom each of them hears, and what is left of one that has gone."""
