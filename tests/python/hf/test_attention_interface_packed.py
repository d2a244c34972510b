"""Sequences packed into one row: each sees itself, or is refused where it would see others."""

from __future__ import annotations

import inspect

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import CACHE, VOCAB
from hf.test_attention_interface import llama, mistral
from torch.fx.experimental.proxy_tensor import make_fx
from transformers import StaticCache
from transformers.masking_utils import create_causal_mask

from masked_attn import packed_attention
from masked_attn.hf.attention import interface as attention_interface
from masked_attn.hf.attention import paths as attention_paths

pytestmark = pytest.mark.integration

LENGTHS = [4, 6, 3]
PACKED = {
    "cu_seq_lens_q": torch.tensor([0, 4, 10, 13], dtype=torch.int32),
    "cu_seq_lens_k": torch.tensor([0, 4, 10, 13], dtype=torch.int32),
    "max_length_q": 6,
    "max_length_k": 6,
}


def packed_row() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(1, VOCAB, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(2))
    return ids, torch.cat([torch.arange(n) for n in LENGTHS])[None]


@pytest.mark.parametrize("name", ["cu_seqlens", "block_table", "sinks", "indices", "block_indices"])
def test_61_keywords_that_change_what_is_seen_are_refused(name):
    q = torch.randn(1, 2, 3, 4)
    with pytest.raises(ValueError, match=f"does not support {name}"):
        attention_interface.attention_forward(
            torch.nn.Module(), q, q, q, None, **{name: torch.ones(2)}
        )


@pytest.fixture
def packed_calls(monkeypatch):
    """How often packed_attention ran."""
    calls = []

    def count(*args, **kwargs):
        calls.append(kwargs)
        return packed_attention(*args, **kwargs)

    monkeypatch.setattr(attention_paths, "packed_attention", count)
    return calls


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("build", [llama, mistral])
def test_61_packed_keywords_are_honoured(build, use_cache, packed_calls):
    ids, positions = packed_row()
    with torch.no_grad():
        ours = build("masked_attn")(ids, position_ids=positions, use_cache=use_cache, **PACKED)
        alone = torch.cat([build("eager")(x).logits for x in ids.split(LENGTHS, dim=1)], dim=1)
    assert packed_calls
    torch.testing.assert_close(ours.logits, alone, atol=2e-4, rtol=1e-4)


def test_61_packed_keywords_with_gradients():
    ids, positions = packed_row()
    ours, stock = llama("masked_attn"), llama("eager")
    ours(ids, position_ids=positions, use_cache=False, **PACKED).logits.square().sum().backward()
    torch.cat([stock(x).logits for x in ids.split(LENGTHS, dim=1)], 1).square().sum().backward()
    for mine, theirs in zip(ours.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=2e-3, rtol=1e-3)


def test_61_packed_keywords_beside_pads_are_refused():
    ids, positions = packed_row()
    mask = torch.ones_like(ids)
    mask[:, :2] = 0
    with pytest.raises(ValueError, match="cu_seq_lens_q .*together with a cache"):
        llama("masked_attn")(ids, position_ids=positions, attention_mask=mask, **PACKED)


@pytest.mark.parametrize("beside", ["a new cache", "a mask of ones", "a window"])
def test_61_positions_that_restart_are_honoured_beside(beside, packed_calls):
    ids, positions = packed_row()
    build = mistral if beside == "a window" else llama
    more = {}
    if beside == "a mask of ones":
        more = {"attention_mask": torch.ones_like(ids), "use_cache": False}
    with torch.no_grad():
        ours = build("masked_attn")(ids, position_ids=positions, **more).logits
        alone = torch.cat([build("eager")(x).logits for x in ids.split(LENGTHS, dim=1)], dim=1)
    assert packed_calls
    torch.testing.assert_close(ours, alone, atol=2e-4, rtol=1e-4)


def test_61_positions_that_restart_without_a_cache_are_honoured():
    ids, positions = packed_row()
    with torch.no_grad():
        ours = llama("masked_attn")(ids, position_ids=positions, use_cache=False).logits
        alone = torch.cat([llama("eager")(x).logits for x in ids.split(LENGTHS, dim=1)], dim=1)
    torch.testing.assert_close(ours, alone, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("start", [0, 5])
def test_61_ordinary_positions_pass(start):
    ids, _ = packed_row()
    positions = torch.arange(start, start + ids.shape[1])[None]
    with torch.no_grad():
        ours = llama("masked_attn")(ids, position_ids=positions).logits
        stock = llama("eager")(ids, position_ids=positions).logits
    torch.testing.assert_close(ours, stock, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("beside", ["pads", "a static cache", "a second row", "a full cache"])
def test_61_positions_that_restart_are_refused_beside(beside):
    skips = "allow_is_causal_skip" in inspect.signature(create_causal_mask).parameters
    if beside == "a static cache" and not skips:
        pytest.skip("this transformers wants a 4-D mask there, which is not looked at")
    ids, positions = packed_row()
    model, more = llama("masked_attn"), {}
    if beside == "pads":
        mask = torch.ones_like(ids)
        mask[:, 0] = 0
        more = {"attention_mask": mask, "use_cache": False}
    elif beside == "a static cache":
        more = {CACHE: StaticCache(config=model.config, max_cache_len=16)}
    elif beside == "a second row":
        ids, positions = ids.expand(2, -1), positions.expand(2, -1)
    else:
        with torch.no_grad():
            more = {CACHE: model(ids[:, :3])[CACHE]}
    with pytest.raises(ValueError, match="position_ids that start again"):
        model(ids, position_ids=positions, **more)


def test_61_positions_of_pads_are_no_second_sequence():
    """Pads on the right have position 0 in some callers' hands."""
    ids, _ = packed_row()
    mask = (torch.arange(13) < 9).long()[None]
    positions = torch.arange(13)[None] * mask
    results = []
    for implementation in ("masked_attn", "eager"):
        with torch.no_grad():
            out = llama(implementation)(ids, attention_mask=mask, position_ids=positions)
        results.append(out.logits[:, :9])
    torch.testing.assert_close(*results, atol=2e-4, rtol=1e-4)


def test_positions_are_not_read_where_they_have_no_value():
    ids, _ = packed_row()
    model = llama("masked_attn")
    with torch.no_grad():
        graph = make_fx(lambda x: model(x).logits)(ids)
        torch.testing.assert_close(graph(ids), llama("eager")(ids).logits, atol=2e-4, rtol=1e-4)
