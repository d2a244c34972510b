"""What commands share that run a model: which one, how it loads, what it is given."""
