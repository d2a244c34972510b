"""What ran last, and the report of it."""
