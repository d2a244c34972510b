"""``bench``: stock GPT-2 against a patched one, level by level, on one ragged batch."""
