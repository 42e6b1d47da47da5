"""What the fuzz test sends: a good body for each route, and all the ways to spoil it."""
