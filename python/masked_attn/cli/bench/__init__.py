"""``bench``: a stock model against a patched one, level by level, on one ragged batch."""
