"""What ``generate`` and ``score`` share: a file of lines in, one line out for each."""
