"""``generate``: prompts in, completions out."""
