"""``score``: how likely a model finds the lines of a file."""
