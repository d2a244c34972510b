"""Makes the small GPT-2 that travels with masked_attn: text, training, evaluation."""
