"""What the Python tests share: the oracle, the comparisons, input makers and call counting."""
