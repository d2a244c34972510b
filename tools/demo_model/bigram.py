"""The baseline of the evaluation: the next token guessed from the last one alone."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

__all__ = ["Bigram"]


class Bigram:
    """Counts of token pairs, smoothed towards the counts of single tokens.

    Args:
        documents: token ids of the training documents.
        vocab_size: number of tokens.
        strength: how many imagined pairs the smoothing adds to each first token.
    """

    def __init__(self, documents: list[list[int]], vocab_size: int, strength: float = 2.0) -> None:
        self.strength = strength
        self.pairs: Counter[tuple[int, int]] = Counter()
        self.firsts: Counter[int] = Counter()
        singles: Counter[int] = Counter()
        for ids in documents:
            singles.update(ids)
            self.firsts.update(ids[:-1])
            self.pairs.update(pairwise(ids))
        total = sum(singles.values()) + vocab_size
        self.single = [(singles[token] + 1) / total for token in range(vocab_size)]

    def nats(self, ids: list[int]) -> float:
        """Minus the log-probability of ``ids[1:]``, each token given the one before it."""
        total = 0.0
        for first, second in pairwise(ids):
            seen = self.pairs[first, second] + self.strength * self.single[second]
            total -= math.log(seen / (self.firsts[first] + self.strength))
        return total
