"""``position_bias`` beside every kind of mask, on every path, against plain float64 attention."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from hf.interface_others.models import BIASED
from hf.models import prompts
from support.calls import CallCounter
from torch import Tensor

from masked_attn.hf.attention import interface, paths
from masked_attn.hf.attention.window_mask import WindowMask

pytestmark = pytest.mark.integration

BATCH, HEADS, KV_HEADS, QUERIES, KEYS, DIM = 3, 4, 2, 5, 9, 8
SHAPES = {
    "of all rows": (1, HEADS, QUERIES, KEYS),
    "of each row": (BATCH, HEADS, QUERIES, KEYS),
    "of keys": (1, 1, 1, KEYS),
    "of queries": (BATCH, HEADS, QUERIES, 1),
}
KEY_MASK = torch.arange(KEYS) >= torch.tensor([[4], [0], [6]])
HOLES = torch.rand(BATCH, 1, QUERIES, KEYS, generator=torch.Generator().manual_seed(9)) > 0.4
HOLES[..., -1] = True
SOME = torch.where(HOLES, torch.linspace(-1, 1, KEYS), torch.finfo(torch.float32).min)
BEHIND = torch.arange(KEYS) > torch.arange(QUERIES)[:, None] + KEYS - QUERIES
FAR = torch.arange(KEYS) <= torch.arange(QUERIES)[:, None] + KEYS - QUERIES - 3
# The mask that attention is handed, other arguments, and what is added to the scores by that.
MASKS: dict[str, tuple[Any, dict[str, Any], Tensor]] = {
    "no mask": (None, {"is_causal": False}, torch.zeros(1)),
    "causal": (None, {"is_causal": True}, torch.zeros(1).masked_fill(BEHIND, -math.inf)),
    "key mask": (
        KEY_MASK,
        {},
        torch.zeros(1).masked_fill(BEHIND | ~KEY_MASK[:, None, None], -math.inf),
    ),
    "key mask for all": (
        KEY_MASK[:, None, None].expand(-1, -1, QUERIES, -1),
        {},
        torch.zeros(1).masked_fill(~KEY_MASK[:, None, None], -math.inf),
    ),
    "4-D bool": (HOLES, {}, torch.zeros(1).masked_fill(~HOLES, -math.inf)),
    "4-D float": (SOME, {}, SOME.masked_fill(~HOLES, -math.inf)),
    "window": (
        WindowMask(KEY_MASK, QUERIES, 3, True),
        {},
        torch.zeros(1).masked_fill(BEHIND | FAR | ~KEY_MASK[:, None, None], -math.inf),
    ),
}
NEVER = torch.tensor(-math.inf, dtype=torch.float64)
MODES = {"operator": "masked_attention", "gradient": None, "textbook": "masked_softmax"}


def states(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(8)
    shapes = [(BATCH, HEADS, QUERIES, DIM), *[(BATCH, KV_HEADS, KEYS, DIM)] * 2]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def make_bias(shape: str) -> Tensor:
    """As T5 makes it: keys do not lie side by side."""
    batch, heads, queries, keys = SHAPES[shape]
    generator = torch.Generator().manual_seed(7)
    return 2 * torch.randn(batch, queries, keys, heads, generator=generator).permute(0, 3, 1, 2)


def truth(query: Tensor, key: Tensor, value: Tensor, added: Tensor, scale: float = 1.0) -> Tensor:
    """``[batch, queries, heads, dim]``; a row that sees nothing is 0."""
    groups = query.shape[1] // key.shape[1]
    query, key, value = query.double(), key.double(), value.double()
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    scores = scale * torch.einsum("bhqd,bhkd->bhqk", query, key) + added
    empty = (scores == -math.inf).all(-1, keepdim=True)
    weights = scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)
    return (weights @ value).transpose(1, 2)


class Layer(torch.nn.Module):
    num_key_value_groups = HEADS // KV_HEADS


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Any, **more: Any) -> Tensor:
    return interface.attention_forward(Layer(), query, key, value, mask, scaling=1.0, **more)[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mask", MASKS)
def test_equals_plain_attention(mask, shape, mode):
    given, more, added = MASKS[mask]
    query, key, value = states()
    bias = make_bias(shape)
    expected = truth(query, key, value, added.double() + bias.double())
    more = {**more, "output_attentions": True} if mode == "textbook" else more
    query.requires_grad_(mode == "gradient")
    with CallCounter() as calls:
        out = attend(query, key, value, given, position_bias=bias, **more)
    torch.testing.assert_close(out.detach().double(), expected, atol=1e-5, rtol=1e-5)
    assert bool(calls[MODES[mode] or "masked_attention"]) == (mode != "gradient")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mask", MASKS)
def test_stands_beside_a_softcap_and_sinks(mask, mode):
    """Bent are the scores alone; a sink takes weight from whatever the bias makes of them."""
    given, more, added = MASKS[mask]
    query, key, value = states()
    bias, sinks = make_bias("of all rows"), torch.linspace(-1, 2, HEADS)
    added = added.double() + bias.double()
    scores = 2 * torch.tanh(
        query.double() @ key.double().repeat_interleave(HEADS // KV_HEADS, 1).mT / 2
    )
    column = sinks.double()[:, None, None].expand(BATCH, HEADS, QUERIES, 1)
    weights = torch.cat([scores + added, column], -1).softmax(-1)[..., :KEYS]
    expected = weights @ value.double().repeat_interleave(HEADS // KV_HEADS, 1)
    if mode == "textbook":
        more = {**more, "output_attentions": True}
    query.requires_grad_(mode == "gradient")
    out = attend(query, key, value, given, position_bias=bias, softcap=2.0, s_aux=sinks, **more)
    torch.testing.assert_close(
        out.detach().double(), expected.transpose(1, 2), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("mask", MASKS)
def test_the_bias_has_its_gradient(mask):
    given, more, added = MASKS[mask]
    grads = []
    for ours in (True, False):
        bias = make_bias("of all rows").requires_grad_()
        if ours:
            out = attend(*states(), given, position_bias=bias, **more)
        else:
            out = truth(*states(), added.double() + bias.double())
        out.double().square().sum().backward()
        grads.append(bias.grad)
    assert grads[1].abs().max() > 0
    torch.testing.assert_close(*grads, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", [math.nan, -math.inf, torch.finfo(torch.float32).min])
def test_1_4_5_numbers_that_are_none(number, mode):
    """A key behind -inf or finfo.min is not seen, a NaN shows where it is seen and only there."""
    bias = make_bias("of each row")
    bias[0, 1, 2, 5:] = number
    bias[1, 0, 1] = number
    query, key, value = states()
    if mode == "gradient":
        query.requires_grad_()
    more = {"output_attentions": True} if mode == "textbook" else {}
    out = attend(query, key, value, KEY_MASK, position_bias=bias, **more).detach()
    touched = torch.zeros(out.shape[:3], dtype=torch.bool)
    touched[0, 2, 1] = touched[1, 1, 0] = True
    assert torch.equal(out.isnan().any(-1), touched & math.isnan(number))
    if not math.isnan(number):
        hidden = (bias == number).nonzero(as_tuple=True)
        added = MASKS["key mask"][2].double() + bias.double().index_put(hidden, NEVER)
        torch.testing.assert_close(out.double(), truth(*states(), added), atol=1e-5, rtol=1e-5)
        assert not out[1, 1, 0].any()


def test_keys_behind_those_of_the_mask_do_not_count():
    """A static cache hands over all of its slots, and a bias for each."""
    query, key, value = states()
    mask = KEY_MASK[:, :7]
    out = attend(query, key, value, mask, position_bias=make_bias("of all rows"))
    key, value, bias = key[:, :, :7], value[:, :, :7], make_bias("of all rows")[..., :7]
    behind = torch.arange(7) > torch.arange(QUERIES)[:, None] + 7 - QUERIES
    added = torch.zeros(1).masked_fill(behind | ~mask[:, None, None], -math.inf)
    expected = truth(query, key, value, added.double() + bias.double())
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("causal", [True, False])
def test_61_sequences_in_one_row_do_not_see_each_other(causal, mode):
    lengths, total = [4, 6, 3], 13
    generator = torch.Generator().manual_seed(4)
    query, key, value = (torch.randn(1, HEADS, total, DIM, generator=generator) for _ in range(3))
    bias = torch.randn(1, HEADS, total, total, generator=generator)
    starts = torch.tensor([0, 4, 10, 13])
    more = {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "is_causal": causal}
    if mode == "textbook":
        more["output_attentions"] = True
    query.requires_grad_(mode == "gradient")
    out = interface.attention_forward(
        torch.nn.Module(), query, key, value, None, scaling=1.0, position_bias=bias, **more
    )[0].detach()
    for begin, length in zip([0, 4, 10], lengths, strict=True):
        part = slice(begin, begin + length)
        added = bias[..., part, part].double()
        if causal:
            behind = torch.ones(length, length, dtype=torch.bool).triu(1)
            added = added.masked_fill(behind, -math.inf)
        alone = truth(*(x[:, :, part].detach() for x in (query, key, value)), added)
        torch.testing.assert_close(out[:, part].double(), alone, atol=1e-5, rtol=1e-5)


def test_52_what_is_no_bias_is_refused_by_name():
    wrong = {
        "a float tensor, got a torch.int64": torch.zeros(1, HEADS, QUERIES, KEYS).long(),
        "a float tensor, got a torch.bool": torch.zeros(1, HEADS, QUERIES, KEYS).bool(),
        "a float tensor, got float": 1.0,
        r"\[3, 4, 5, 9\], got \[1, 4, 5, 8\]": torch.zeros(1, HEADS, QUERIES, KEYS - 1),
        r"\[3, 4, 5, 9\], got \[2, 4, 5, 9\]": torch.zeros(2, HEADS, QUERIES, KEYS),
        r"\[3, 4, 5, 9\], got \[5, 9\]": torch.zeros(QUERIES, KEYS),
    }
    for message, bias in wrong.items():
        with pytest.raises(ValueError, match=f"position_bias must be .*{message}"):
            attend(*states(), None, position_bias=bias)


@pytest.fixture
def asked(monkeypatch):
    """What ``masked_attention`` is asked for, call by call."""
    calls: list[dict[str, Any]] = []

    def attend(*states, **masks):
        calls.append(masks)
        return original(*states, **masks)

    original = paths.masked_attention
    monkeypatch.setattr(paths, "masked_attention", attend)
    return calls


def test_pads_and_causality_go_beside_the_bias_of_all_rows(asked):
    if not BIASED["t5"].on_interface():
        pytest.skip("T5 of this transformers has attention of its own")
    ids, mask = prompts([5, 9, 3])
    with torch.no_grad():
        BIASED["t5"].build("masked_attn")(
            ids, attention_mask=mask, decoder_input_ids=ids, decoder_attention_mask=mask
        )
    kinds = {"encoder": asked[:2], "self": asked[2::2], "cross": asked[3::2]}
    for kind, calls in kinds.items():
        assert [call["causal"] for call in calls] == [kind == "self"] * 2
        assert all(call["attn_mask"].shape == (1, 4, 9, 9) for call in calls)
        assert all(call["attn_mask"].is_contiguous() for call in calls)
        assert all(torch.equal(call["key_mask"] != 0, mask.bool()) for call in calls)


def test_a_bias_is_copied_only_where_keys_lie_apart(asked):
    """And then once for all rows and all heads that share it."""
    shared = torch.randn(QUERIES, KEYS, 2)[..., 0].expand(BATCH, HEADS, QUERIES, KEYS)
    apart, close = make_bias("of all rows"), torch.randn(1, HEADS, QUERIES, KEYS)
    for bias in (apart, close, shared):
        attend(*states(), None, position_bias=bias)
    query, key, value = states()
    attend(query[:, :, :1], key, value, None, position_bias=apart[:, :, :1])
    got = [call["attn_mask"] for call in asked]
    assert [tuple(mask.shape[:2]) for mask in got] == [(1, HEADS), (1, HEADS), (1, 1), (1, HEADS)]
    assert got[0].is_contiguous() and got[2].is_contiguous()
    assert got[1].data_ptr() == close.data_ptr() and got[3].data_ptr() == apart.data_ptr()
