"""Identity: who there is, what they may, and the tokens that say so."""
