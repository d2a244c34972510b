"""Writes the text that the model learns: short connected stories of everyday life.

The text depends on the seed alone. ``python -m tools.demo_model.corpus`` prints a sample.
"""

from __future__ import annotations

import argparse
import random

from . import stories_home, stories_outside, stories_people
from .grammar import Hero, Story
from .prompts import ALL_PROMPTS, contains_prompt
from .words import LISTS

__all__ = ["HELD_OUT_SEED", "TRAIN_DOCUMENTS", "TRAIN_SEED", "make_document", "make_documents"]

TRAIN_SEED = 1
TRAIN_DOCUMENTS = 100_000
HELD_OUT_SEED = 2

TEMPLATES: list[list[str]] = [
    [line.strip() for line in story.splitlines()]
    for module in (stories_home, stories_outside, stories_people)
    for story in module.STORIES
]
_SHARE_OF_LONG_DOCUMENTS = 0.25


def _make_hero(rng: random.Random) -> Hero:
    kind = rng.random()
    if kind < 0.3:
        return Hero(rng.choice(LISTS["boy"]), "he", "him", "his", "himself", True)
    if kind < 0.6:
        return Hero(rng.choice(LISTS["girl"]), "she", "her", "her", "herself", True)
    if kind < 0.85:
        return Hero("I", "I", "me", "my", "myself", False)
    return Hero("we", "we", "us", "our", "ourselves", False)


def _make_story(rng: random.Random, hero: Hero) -> str:
    story = Story(rng, LISTS, hero)
    sentences = []
    for line in rng.choice(TEMPLATES):
        if line.startswith("? "):
            if rng.random() < 0.5:
                continue
            line = line[2:]
        sentences.append(line)
    return story.sentence(" ".join(sentences))


def _make_part(rng: random.Random, hero: Hero) -> str:
    while True:
        part = _make_story(rng, hero)
        if not contains_prompt(part):
            return part


def make_document(rng: random.Random) -> str:
    """One document: a story, or several paragraphs about the same person."""
    hero = _make_hero(rng)
    parts = [_make_part(rng, hero)]
    if rng.random() < _SHARE_OF_LONG_DOCUMENTS:
        parts += [_make_part(rng, hero) for _ in range(rng.randint(1, 5))]
    return "\n".join(parts)


def make_documents(count: int, seed: int) -> list[str]:
    """Write ``count`` documents.

    Args:
        count: number of documents.
        seed: the same seed gives the same text; ``TRAIN_SEED`` is what the model has read.

    Returns:
        The documents, none of which contains a prompt of ``prompts.py``.

    Example:
        >>> make_documents(3, seed=7) == make_documents(3, seed=7)
        True
    """
    rng = random.Random(seed)
    documents = [make_document(rng) for _ in range(count)]
    whole = "\n".join(documents).lower()
    for prompt in ALL_PROMPTS:
        assert prompt.lower() not in whole, f"the text contains the prompt {prompt!r}"
    return documents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=TRAIN_SEED)
    arguments = parser.parse_args()
    print("\n\n".join(make_documents(arguments.count, arguments.seed)))


if __name__ == "__main__":
    main()
