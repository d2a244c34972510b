"""The prompts that the model must finish without having read them.

No training or held-out document contains one of these strings (upper or lower case alike).
"""

from __future__ import annotations

__all__ = ["ALL_PROMPTS", "DEMO_PROMPTS", "OTHER_PROMPTS", "contains_prompt"]

DEMO_PROMPTS = [
    "It will rain in the",
    "I want to eat a big bowl of",
    "My dog is",
]

OTHER_PROMPTS = [
    "The weather today is",
    "My grandmother bakes",
    "The children played in the garden until",
    "On Monday morning, the teacher",
    "We took the train to",
    "The farmer went to the market to buy",
    "A small boat sailed across the",
    "She opened the window and",
    "After dinner, my father likes to",
    "The cat was sleeping on the",
    '"Where are you going?" asked',
    "Tom and his sister walked to the",
    "In winter, the lake is",
    "I forgot my umbrella, so",
    "Last summer we went to",
    "The baker gets up early because",
    "There was a little bird in",
    "For breakfast I had",
    "The bus was late, and",
    "When the sun came out, the",
]

ALL_PROMPTS = DEMO_PROMPTS + OTHER_PROMPTS
_LOWERED = [prompt.lower() for prompt in ALL_PROMPTS]


def contains_prompt(text: str) -> bool:
    """Tell whether one of the prompts occurs in ``text``, whatever the case of its letters."""
    lowered = text.lower()
    return any(prompt in lowered for prompt in _LOWERED)
