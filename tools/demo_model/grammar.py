"""Turns a template into one English sentence.

The little language of the templates:
    [a|b|c]      one of the three, may be nested, may be empty
    {fruit}      a random entry of the word list ``fruit``
    {fruit.1}    the same entry wherever the story says ``{fruit.1}``
    {fruit+s}    its plural
    {he} {his}   words that follow the hero of the story
    <go>         the present tense that fits the hero: goes, go
    @            "a" or "an", whichever fits the next word; a written "a" becomes "an" too
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

__all__ = ["Hero", "Story", "plural", "present_tense"]

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{([a-z_]+)(\.\d)?(\+s)?\}")
_VERB = re.compile(r"<([a-z ]+)>")
_ARTICLE = re.compile(r"(@|\ba|\bA) (\w+)")
_SENTENCE_START = re.compile(r'((?:^|[.!?] |\n)"?|(?<![.!?,\w])")([a-z])')
_IRREGULAR_PLURALS = {
    "child": "children", "man": "men", "woman": "women", "mouse": "mice", "goose": "geese",
    "sheep": "sheep", "fish": "fish", "foot": "feet", "tooth": "teeth", "leaf": "leaves",
    "loaf": "loaves", "knife": "knives", "shelf": "shelves", "wolf": "wolves", "calf": "calves",
    "scarf": "scarves", "potato": "potatoes", "tomato": "tomatoes", "mango": "mangoes",
    "deer": "deer", "goldfish": "goldfish", "carp": "carp", "salmon": "salmon",
    "trout": "trout", "cod": "cod", "half": "halves",
}  # fmt: skip
_LIKE_A_CONSONANT = ("uni", "use", "one", "euro")
_LIKE_A_VOWEL = ("hour", "honest")


@dataclass(frozen=True)
class Hero:
    """The person a story is about, and the words that stand for that person."""

    name: str
    he: str
    him: str
    his: str
    himself: str
    third_person: bool

    def words(self) -> dict[str, str]:
        """The hero's entries for the slots of a template."""
        was = "was" if self.third_person or self.name == "I" else "were"
        they = "they" if self.third_person else "we"
        is_ = "is" if self.third_person else ("am" if self.name == "I" else "are")
        return {
            "hero": self.name, "he": self.he, "him": self.him, "his": self.his,
            "himself": self.himself, "was": was, "is": is_, "they": they,
        }  # fmt: skip


def plural(noun: str) -> str:
    """Plural of a noun; of several words the last one changes.

    Example:
        >>> plural("ripe cherry"), plural("box"), plural("sheep")
        ('ripe cherries', 'boxes', 'sheep')
    """
    head, _, last = noun.rpartition(" ")
    if last in _IRREGULAR_PLURALS:
        last = _IRREGULAR_PLURALS[last]
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    elif last.endswith(("s", "x", "ch", "sh")):
        last += "es"
    else:
        last += "s"
    return f"{head} {last}" if head else last


def present_tense(verb: str, third_person: bool) -> str:
    """Present tense of ``verb`` for I/we or for he/she.

    Example:
        >>> present_tense("carry", True), present_tense("go", True), present_tense("go", False)
        ('carries', 'goes', 'go')
    """
    if not third_person:
        return verb
    if verb == "have":
        return "has"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "x", "ch", "sh", "o")) else "s")


def _with_article(match: re.Match[str]) -> str:
    article, word = match.groups()
    low = word.lower()
    vowel = low[0] in "aeiou" and not low.startswith(_LIKE_A_CONSONANT)
    a = article.replace("@", "a")
    return f"{a}n {word}" if vowel or low.startswith(_LIKE_A_VOWEL) else f"{a} {word}"


@dataclass
class Story:
    """Expands the templates of one story; bound slots keep their word through the story."""

    rng: random.Random
    lists: dict[str, list[str]]
    hero: Hero
    bound: dict[str, str] = field(default_factory=dict)

    def sentence(self, template: str) -> str:
        """Expand one template into finished text: articles, capitals, single spaces."""
        text = _ARTICLE.sub(_with_article, self._expand(template))
        text = re.sub(r" +", " ", text).strip()
        text = re.sub(r" ([.,!?])", r"\1", text)
        return _SENTENCE_START.sub(lambda m: m.group(1) + m.group(2).upper(), text)

    def _expand(self, text: str) -> str:
        while _CHOICE.search(text):
            text = _CHOICE.sub(lambda m: self.rng.choice(m.group(1).split("|")), text)
        text = _SLOT.sub(self._fill, text)
        return _VERB.sub(lambda m: present_tense(m.group(1), self.hero.third_person), text)

    def _fill(self, match: re.Match[str]) -> str:
        key, number, many = match.groups()
        label = key + (number or "")
        if number and label in self.bound:
            word = self.bound[label]
        else:
            word = self.hero.words().get(key) or self._expand(self.rng.choice(self.lists[key]))
            if number:
                self.bound[label] = word
        return plural(word) if many else word
