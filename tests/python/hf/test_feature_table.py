"""The table of features in ``docs/gpt2.md``: closed, and each line is run."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from hf.features.feature import Feature
from hf.features.table import FEATURES
from hf.models import CACHE, STOCK_PARTS
from hf.tokens import assert_same_tokens

from masked_attn import report
from masked_attn.hf import patch
from masked_attn.hf.attention import planned
from masked_attn.hf.call import plan
from masked_attn.hf.families.finding import backbone_inside
from masked_attn.hf.instance import neighbours

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
HEAD = ["feature", "path", "note", "test"]
WARNING = "masked_attn: stock attention runs: "
SAYS_WHY = ("LeftToStock", "left_to_stock")
FUSED = {"packed_attention", "cached_attention", "masked_attention"}
PATHS = {"fused": FUSED, "textbook": {"textbook"}, "stock": {"stock"}}


def lines_of_the_table(text: str) -> list[list[str]]:
    """Cells of every line of every table with the head of a feature table."""
    lines, inside = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells == HEAD:
            inside = True
        elif inside and set(line) - set("|-: "):
            lines.append(cells)
    return lines


def name_of(feature: str) -> str:
    """The name of a feature in a test id."""
    return re.sub(r"[^a-z0-9]+", "-", feature.lower()).strip("-")


TABLE = lines_of_the_table((ROOT / "docs" / "gpt2.md").read_text())


def test_the_table_is_closed():
    """Each line has a test and each test a line, with the same path."""
    for cells in TABLE:
        assert len(cells) == len(HEAD), cells
    said = [(name_of(feature), path.strip("`")) for feature, path, _, _ in TABLE]
    assert len({name for name, _ in said}) == len(said)
    assert set(said) == {(name, feature.path) for name, feature in FEATURES.items()}


def test_test_ids_of_the_table_exist():
    for feature, _, _, test in TABLE:
        name = name_of(feature)
        assert test == f"`test_feature[{name}]`"
        assert name in FEATURES
    assert test_feature.__name__ == "test_feature"


def reasons_in_the_code() -> list[str]:
    """A pattern for each text that says why stock code runs."""
    texts = []
    for node in ast.walk(ast.parse(inspect.getsource(plan) + inspect.getsource(planned))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(SAYS_WHY):
            texts.append(node.args[-1])
    for node in ast.walk(ast.parse(inspect.getsource(neighbours.mask_reader))):
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


@pytest.mark.parametrize("name", FEATURES)
def test_feature(name):
    if name == "cache-as-a-keyword" and CACHE == "cache":
        pytest.skip("this transformers gives GPT-2 its cache by that keyword")
    feature = FEATURES[name]
    for build in feature.builds:
        stock = build(implementation=feature.implementation)
        # Where stock code runs the bits are compared, and those of an activation may differ.
        model = patch(build(), **(STOCK_PARTS if feature.path == "stock" else {}), **feature.levels)
        for each in (stock, model):
            feature.change(each)
        torch.manual_seed(3)
        expected = (feature.truth or feature.run)(stock)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result, taken = watched(model, feature)
            if feature.path == "stock":  # a second time without a word
                watched(model, feature)
        assert_equal(result, expected, feature)
        assert taken <= PATHS[feature.path] and taken, taken
        told = [text for w in caught if (text := str(w.message)).startswith(WARNING)]
        assert len(told) == (feature.path == "stock"), told
        assert all(is_a_reason(text.removeprefix(WARNING), feature) for text in told)


def watched(model: Any, feature: Feature) -> tuple[Any, set[str]]:
    """What comes of the feature, and the paths that any layer took in any of its forwards."""
    torch.manual_seed(3)
    taken: set[str] = set()

    def look(*_: Any) -> None:
        taken.update(paths_of(model, feature))

    hook = (
        nullcontext()
        if feature.only_last
        else backbone_inside(model)[1].register_forward_hook(look)
    )
    with hook:
        result = feature.run(model)
    look()
    return result, taken


def paths_of(model: Any, feature: Feature) -> set[str]:
    """Of self-attention and cross attention of all layers in the last forward."""
    taken = set()
    for layer in report(model)["layers"]:
        if layer["path"] == "stock":
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
