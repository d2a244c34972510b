"""The table of features in ``docs/features.md``: the page is written from it, each row is run."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from contextlib import nullcontext
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from hf.features.families import GPT2, SMALL, Families
from hf.features.feature import MASKED, PATHS, STOCK, TEXTBOOK, Feature, forward, name_of
from hf.features.page import END, PAGE, page, table
from hf.features.table import FEATURES, SECTIONS
from hf.models import CACHE, STOCK_PARTS
from hf.tokens import assert_same_tokens

from masked_attn import report
from masked_attn.hf import patch
from masked_attn.hf.attention import planned
from masked_attn.hf.call import plan
from masked_attn.hf.families import decoder, encoder
from masked_attn.hf.families.finding import backbone_inside
from masked_attn.hf.families.registry import FAMILIES
from masked_attn.hf.instance import neighbours

pytestmark = pytest.mark.integration

WARNING = "masked_attn: stock attention runs: "
SAYS_WHY = ("LeftToStock", "left_to_stock")
CASES = {
    f"{name_of(family)}-{name}": (name, family)
    for name, feature in FEATURES.items()
    for family in feature.families.names
}


def test_the_page_is_what_the_data_gives():
    text = PAGE.read_text()
    assert page(text) == text, "docs/features.md: run `make feature-table`"


def test_a_change_of_the_data_is_seen_in_the_page(monkeypatch):
    row = Feature(forward, (MASKED,), "a|b", GPT2, {"GPT-2": {"paths": (TEXTBOOK,)}})
    monkeypatch.setitem(SECTIONS, "Caches", {"something new": row})
    (line,) = [line for line in table().splitlines() if "new" in line]
    path = "`masked_attention`; GPT-2: `textbook`"
    assert line == f"| something new | GPT-2 | {path} | a\\|b |"


def test_a_page_without_its_marks_is_refused():
    with pytest.raises(ValueError, match="features.md must have this line once"):
        page(PAGE.read_text().replace(END, ""))


def test_the_table_is_closed():
    """No two rows have one name; every family is known, and none is without rows."""
    assert len(FEATURES) == sum(len(rows) for rows in SECTIONS.values()) > 80
    assert {family for _, family in CASES.values()} == set(SMALL) == {f.name for f in FAMILIES}
    for feature in FEATURES.values():
        assert set(feature.differs) <= set(feature.families.names)
        for each in (feature, *(feature.on(family) for family in feature.families.names)):
            assert set(each.paths) <= set(PATHS) and each.paths
            assert (STOCK in each.paths) == bool(each.why)


def test_groups_of_families():
    others = Families("others", ("A", "B"))
    both = GPT2 + others
    assert both == Families("GPT-2, others", ("GPT-2", "A", "B"))
    assert both - Families("A", ("A",)) == Families("GPT-2, others but A", ("GPT-2", "B"))


def reasons_in_the_code() -> list[str]:
    """A pattern for each text that says why stock code runs."""
    texts = []
    for node in ast.walk(ast.parse(inspect.getsource(plan) + inspect.getsource(planned))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(SAYS_WHY):
            texts.append(node.args[-1])
    for node in ast.walk(
        ast.parse(
            inspect.getsource(neighbours.mask_reader)
            + inspect.getsource(neighbours._mask_reader_in)
        )
    ):
        if isinstance(node, ast.Return):
            texts.append(node.value)
    for rule in (decoder._refused, decoder._looks_both_ways, encoder._refused):
        for node in ast.walk(ast.parse(inspect.getsource(rule))):
            if isinstance(node, ast.Return):
                texts.append(node.value)
    return [pattern for text in texts if (pattern := pattern_of(text))]


def pattern_of(text: ast.expr) -> str | None:
    """Of a string in the code; what is put into it may be anything."""
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        return re.escape(text.value)
    if isinstance(text, ast.JoinedStr):
        parts = [
            pattern_of(part) if isinstance(part, ast.Constant) else ".+" for part in text.values
        ]
        return "".join(part or "" for part in parts)
    return None


def test_every_reason_for_stock_code_has_a_line():
    known = [why for feature in FEATURES.values() for why in feature.why]
    patterns = reasons_in_the_code()
    assert len(patterns) > 15
    for pattern in patterns:
        assert any(re.fullmatch(pattern, why) for why in known), pattern
    given = {why.removesuffix(" was given") for why in known if why.endswith(" was given")}
    assert given == set(plan.STOCK_KEYWORDS)


@pytest.mark.parametrize(("name", "family"), CASES.values(), ids=CASES)
def test_feature(name, family):
    if name == "cache-as-a-keyword" and CACHE == "cache":
        pytest.skip("this transformers gives GPT-2 its cache by that keyword")
    feature, make = FEATURES[name].on(family), SMALL[family]
    is_stock = STOCK in feature.paths
    for build in feature.builds:
        stock = build(make, implementation=feature.implementation)
        # Where stock code runs the bits are compared, and those of an activation may differ.
        model = patch(build(make), **(STOCK_PARTS if is_stock else {}), **feature.levels)
        for each in (stock, model):
            feature.change(each)
        torch.manual_seed(3)
        expected = (feature.truth or feature.run)(stock)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result, taken = watched(model, feature)
            if is_stock:  # a second time without a word
                watched(model, feature)
        assert_equal(result, expected, feature)
        assert taken == set(feature.paths)
        told = [text for w in caught if (text := str(w.message)).startswith(WARNING)]
        # Each reason once: a second forward has nothing new to say.
        assert len({re.sub(r"\d", "", text) for text in told}) == len(told), told
        assert bool(told) == (is_stock and feature.told), told
        assert all(is_a_reason(text.removeprefix(WARNING), feature) for text in told)


def watched(model: Any, feature: Feature) -> tuple[Any, set[str]]:
    """What comes of the feature, and the paths that any layer took in any of its forwards."""
    torch.manual_seed(3)
    taken: set[str] = set()

    def look(*_: Any) -> None:
        taken.update(paths_of(model, feature))

    _, backbone = backbone_inside(model)
    hook = nullcontext() if feature.only_last else backbone.register_forward_hook(look)
    with hook:
        result = feature.run(model)
    look()
    return result, taken


def paths_of(model: Any, feature: Feature) -> set[str]:
    """Of self-attention and cross attention of all layers in the last forward."""
    taken = set()
    for layer in report(model)["layers"]:
        if layer["path"] == STOCK:
            assert is_a_reason(layer["why"], feature)
        taken.add(layer["path"])
        if layer["cross"] is not None:
            taken.add(layer["cross"]["path"])
    return taken


def is_a_reason(text: str, feature: Feature) -> bool:
    return any(re.sub(r"\d+", "0", text) == re.sub(r"\d+", "0", why) for why in feature.why)


def assert_equal(result: Any, expected: Any, feature: Feature) -> None:
    if isinstance(expected, list):
        for mine, other in zip(result, expected, strict=True):
            assert_equal(mine, other, feature)
    elif isinstance(expected, torch.Tensor):
        limit = feature.tolerance
        torch.testing.assert_close(result, expected, atol=limit, rtol=limit)
    else:
        assert_same_tokens(result, expected)
