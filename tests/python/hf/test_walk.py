"""The walk of one forward in ``docs/design.md`` is the one that a profile shows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from hf.families.batches import batch
from hf.families.models import FAMILIES

import masked_attn
from masked_attn import KVCache, patch
from masked_attn import hf as house

pytestmark = pytest.mark.integration

HOUSE = Path(house.__file__).parent
PAGE = Path(__file__).resolve().parents[3] / "docs" / "design.md"


def walk_of_the_page() -> list[str]:
    text = PAGE.read_text().split("### The walk of one forward")[1].split("###")[0]
    return re.findall(r"(?m)^\| \d+ \| `([^`]+)` \|", text)


def files_entered(call) -> list[str]:
    """Files of the house, in the order in which they are first entered."""
    entered: dict[str, None] = {}

    def note(frame, event, _):
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(HOUSE):
            entered.setdefault(file.relative_to(HOUSE).as_posix())

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(entered)


@torch.no_grad()
def test_one_forward_walks_as_the_page_says():
    page = walk_of_the_page()
    assert len(page) == 8
    family = FAMILIES["llama"]
    model = patch(family.build(num_hidden_layers=1))
    rows = batch(family, side="left")
    cache = KVCache()
    inputs = {**rows.inputs(), "past_key_values": cache}
    entered = files_entered(lambda: model(**inputs))
    assert [name for name in entered if name in page] == page
    asked = {
        "cache_argument",
        "reading",
        "packing",
        "layer",
        "sequences",
        "visibility",
        "stand_in",
        "static",
    }
    rooms = ("call/", "attention/", "caches/")
    main = [name for name in entered if name.startswith(rooms) and Path(name).stem not in asked]
    assert main == page
    assert "fewer than 30 files of `hf`" in PAGE.read_text() and len(entered) < 30
    assert masked_attn.report(model)["layers"][0]["path"] == "packed_attention"

    mask = torch.nn.functional.pad(rows.mask, (0, 1), value=1)
    entered = files_entered(
        lambda: model(rows.ids[:, -1:], attention_mask=mask, past_key_values=cache)
    )
    assert set(page) <= set(entered) and "call/packing.py" not in entered
