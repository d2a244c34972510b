"""``info``: versions, what was built, what this machine uses, and whether it works."""
