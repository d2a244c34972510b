"""Masks with sliding windows: told from transformers' functions, right for who reads them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

pytest.importorskip("transformers")

from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertModel, BloomConfig, BloomModel, LlamaConfig, LlamaModel
from transformers.masking_utils import (
    and_masks,
    bidirectional_mask_function,
    causal_mask_function,
    chunked_causal_mask_function,
    or_masks,
    packed_sequence_mask_function,
    sdpa_mask,
    sliding_window_bidirectional_mask_function,
    sliding_window_bidirectional_overlay,
    sliding_window_causal_mask_function,
    sliding_window_overlay,
)

from masked_attn.hf.attention import masks
from masked_attn.hf.attention.mask_functions import Pattern, pattern_of
from masked_attn.hf.attention.masks import make_mask
from masked_attn.hf.attention.window_mask import WindowMask
from masked_attn.reference import position_visible

pytestmark = pytest.mark.integration

LOADED = (LlamaModel, BertModel, BloomModel)  # so that their source says what they do with masks
DECODER = LlamaConfig(attn_implementation="masked_attn")


def window_function(causal: bool, size: int):
    """A mask function of transformers: ``size`` as its configs say it."""
    if causal:
        return sliding_window_causal_mask_function(size)
    return sliding_window_bidirectional_mask_function(size)


def ragged(batch: int, tokens: int) -> torch.Tensor:
    """Padding on the left, on the right, holes, none."""
    mask = torch.ones(batch, tokens, dtype=torch.bool)
    mask[0, : tokens // 3] = False
    mask[1, -(tokens // 4) :] = False
    mask[2, 1::3] = False
    return mask


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
def test_windows_mean_to_transformers_what_they_mean_to_the_operators(size, causal):
    function = window_function(causal, size)
    pattern = pattern_of(function)
    assert pattern == Pattern(causal, size if causal else size + 1)
    expected = sdpa_mask(1, 20, 20, mask_function=function, allow_is_causal_skip=False)
    seen = position_visible(20, 20, causal=causal, window=pattern.window)
    assert torch.equal(expected[0, 0], seen)


def test_plain_functions_are_known():
    assert pattern_of(causal_mask_function) == Pattern(causal=True)
    assert pattern_of(bidirectional_mask_function) == Pattern(causal=False)


def own_overlay(sliding_window):
    def inner_mask(batch_idx, head_idx, q_idx, kv_idx):
        return kv_idx > q_idx - 2 * sliding_window

    return inner_mask


UNKNOWN = {
    "chunks": chunked_causal_mask_function(4, torch.zeros(1, dtype=torch.long)),
    "a window alone": sliding_window_overlay(4),
    "or": or_masks(sliding_window_overlay(4), causal_mask_function),
    "packed": and_masks(
        sliding_window_causal_mask_function(4), packed_sequence_mask_function(torch.zeros(1, 9))
    ),
    "three": and_masks(sliding_window_overlay(4), causal_mask_function, causal_mask_function),
    "a causal window both ways": and_masks(sliding_window_overlay(4), bidirectional_mask_function),
    "both ways and causal": and_masks(
        sliding_window_bidirectional_overlay(4), causal_mask_function
    ),
    "a function that looks like theirs": and_masks(own_overlay(4), causal_mask_function),
    "a tensor for a window": sliding_window_causal_mask_function(torch.tensor(4)),
    "no window": sliding_window_causal_mask_function(0),
    "half a token": sliding_window_causal_mask_function(2.5),
    "no function": object(),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_is_not_exactly_a_window_stays_unknown(kind):
    assert pattern_of(UNKNOWN[kind]) is None


def test_a_window_that_transformers_counts_differently_stays_unknown(monkeypatch):
    """A later release may count the query out: the same names, another code."""
    from masked_attn.hf.attention import mask_functions

    monkeypatch.setattr(mask_functions, "_causal_overlay", own_overlay(1))
    assert pattern_of(and_masks(own_overlay(4), causal_mask_function)) is None


def ask(causal: bool, size: int, queries: int, keys: int, mask=None, config=DECODER, **more):
    skip = {"allow_is_causal_skip": causal, "allow_is_bidirectional_skip": not causal}
    return make_mask(
        3,
        queries,
        keys,
        mask_function=window_function(causal, size),
        attention_mask=mask,
        config=config,
        local_size=size,
        **{**skip, **more},
    )


def expected(causal: bool, size: int, queries: int, keys: int, mask=None, **more):
    return sdpa_mask(
        3,
        queries,
        keys,
        mask_function=window_function(causal, size),
        attention_mask=mask,
        allow_is_causal_skip=False,
        **more,
    )


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("window", [2, 3, 8, 11])
def test_a_window_is_handed_on_as_such(window, padded, causal):
    mask = ragged(3, 12) if padded else None
    size = window if causal else window - 1
    made = ask(causal, size, 12, 12, mask)
    assert (type(made), made.causal, made.window) == (WindowMask, causal, window)
    assert (made.written, made.dtype, made.shape) == (None, torch.bool, (3, 1, 12, 12))
    assert torch.equal(made & True, expected(causal, size, 12, 12, mask))


@pytest.mark.parametrize(("queries", "seen", "cut"), [(1, 11, 0), (4, 8, 0), (4, 8, 6), (1, 11, 9)])
@pytest.mark.parametrize("padded", [True, False])
def test_steps_and_chunks_and_caches_of_the_last_keys(queries, seen, cut, padded):
    """``cut``: tokens that a sliding layer of the cache no longer has."""
    mask, keys = ragged(3, 12) if padded else None, 12 - cut
    offsets = {"q_offset": seen, "kv_offset": cut}
    made = ask(True, 3, queries, keys, mask, **offsets)
    dense = expected(True, 3, queries, keys, mask, **offsets)
    if keys > 3:
        assert type(made) is WindowMask
        assert torch.equal(made.dense(), dense)
    elif padded:  # all that is left is in the window
        assert torch.equal(made, mask[:, cut:])
        assert torch.equal(made[:, None, None], dense)
    else:
        assert made is None and bool(dense.all())


@pytest.mark.parametrize("padded", [True, False])
def test_a_window_wider_than_all_keys_is_none(padded):
    mask = ragged(3, 12) if padded else None
    causal = ask(True, 12, 12, 12, mask)
    assert causal is mask or torch.equal(causal, mask)
    both_ways = ask(False, 13, 12, 12, mask)
    if not padded:
        assert both_ways is None
        return
    assert both_ways.stride(2) == 0
    assert torch.equal(both_ways, expected(False, 13, 12, 12, mask))


DENSE = {
    "no skip": {"allow_is_causal_skip": False},
    "of a caller": {"use_vmap": True},
    "a static cache": {"keys": 16},
    "on a device": {"q_offset": torch.tensor(0, device="meta"), "device": "meta"},
    "a mask for more tokens": {"mask": torch.ones(3, 16, dtype=torch.bool)},
}


@pytest.mark.parametrize("why", DENSE)
def test_the_rest_stays_dense(why):
    more = dict(DENSE[why])
    mask, keys = more.pop("mask", None), more.pop("keys", 12)
    made = ask(True, 3, 12, keys, mask, **more)
    assert type(made) is torch.Tensor and made.shape == (3, 1, 12, keys)


def test_layers_that_read_their_mask_get_stocks_own(monkeypatch):
    monkeypatch.setattr(masks, "_told", set())  # it is said once in a process
    config = BloomConfig(attn_implementation="masked_attn")
    with pytest.warns(UserWarning, match="Bloom"):
        made = ask(True, 3, 12, 12, config=config)
    assert type(made) is torch.Tensor and made.is_floating_point()
    assert type(ask(False, 3, 12, 12, config=BertConfig())) is WindowMask


def window_mask() -> tuple[WindowMask, torch.Tensor]:
    mask = ragged(3, 6)
    return WindowMask(mask, 4, 3, True), expected(True, 3, 4, 6, mask, q_offset=2)


READERS = {
    "index": lambda m: m[:, :, 1:, :3],
    "flip": lambda m: m.flip(dims=(-1,)),
    "and": lambda m: m & torch.eye(4, 6, dtype=torch.bool),
    "and, the other way": lambda m: torch.eye(4, 6, dtype=torch.bool) & m,
    "add": lambda m: torch.ones(4, 6) + m,
    "where": lambda m: torch.where(m, 0.0, -1.0),
    "float": lambda m: m.float(),
    "expand": lambda m: m.expand(3, 2, 4, 6),
    "cat": lambda m: torch.cat([m, m], dim=1),
    "any": lambda m: m.any(dim=-1),
    "sdpa": lambda m: torch.nn.functional.scaled_dot_product_attention(
        torch.ones(3, 1, 4, 2), torch.ones(3, 1, 6, 2), torch.rand(3, 1, 6, 2).cumsum(2), m
    ),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("reader", READERS)
def test_who_reads_it_reads_the_dense_mask(reader, mode):
    mask, dense = window_mask()
    with mode():
        torch.manual_seed(1)
        ours = READERS[reader](mask)
        torch.manual_seed(1)
        assert type(ours) is torch.Tensor
        torch.testing.assert_close(ours, READERS[reader](dense), equal_nan=True)


def negate(mask):
    mask.logical_not_()


def write_item(mask):
    mask[1, 0, 2] = True


def write_view(mask):
    mask[:, :, 1:].logical_or_(torch.ones(6, dtype=torch.bool))


def write_operator(mask):
    mask &= torch.eye(4, 6, dtype=torch.bool)


@pytest.mark.parametrize("write", [negate, write_item, write_view, write_operator])
def test_what_is_written_to_it_counts(write):
    mask, dense = window_mask()
    write(mask)
    write(dense)
    assert torch.equal(mask & True, dense)
    assert torch.equal(copy.deepcopy(mask) & True, dense)


COPIES = {
    "to": lambda m: m.to("cpu", copy=True),
    "meta": lambda m: m.to("meta"),
    "bool": lambda m: m.to(torch.bool),
    "clone": lambda m: m.clone(),
    "contiguous": lambda m: m.contiguous(),
    "detach": lambda m: m.detach(),
    "deepcopy": copy.deepcopy,
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_stay_unexpanded(kind):
    mask, dense = window_mask()
    made = COPIES[kind](mask)
    assert (type(made), made.written, mask.written) == (WindowMask, None, None)
    assert (made.window, made.causal, made.shape) == (3, True, mask.shape)
    if kind == "meta":
        assert made.device.type == made.key_mask.device.type == "meta"
    else:
        assert torch.equal(made & True, dense)


def test_accelerate_sends_it_unexpanded():
    utils = pytest.importorskip("accelerate.utils")
    mask, _ = window_mask()
    made = utils.send_to_device({"attention_mask": mask}, "meta")["attention_mask"]
    assert (type(made), made.window, made.device.type) == (WindowMask, 3, "meta")


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_hand_it_on_twice(reentrant):
    mask, dense = window_mask()
    scores, seen = torch.zeros(3, 1, 4, 6, requires_grad=True), []

    def layer(scores, mask):
        seen.append(type(mask))
        return scores.masked_fill(mask, 2.0).sum()

    checkpoint(layer, scores, mask, use_reentrant=reentrant).backward()
    assert seen == [WindowMask, WindowMask]
    assert torch.equal(scores.grad == 0, dense)


def test_a_compiled_layer_reads_it():
    mask, dense = window_mask()
    scores = torch.rand(3, 1, 4, 6)
    torch._dynamo.reset()
    layer = torch.compile(lambda s, m: s.masked_fill(m, 2.0), backend="aot_eager", fullgraph=True)
    expected = scores.masked_fill(dense, 2.0)
    torch.testing.assert_close(layer(scores, mask), expected)
    write_item(mask)
    write_item(dense)
    torch.testing.assert_close(layer(scores, mask), scores.masked_fill(dense, 2.0))


def test_a_compiled_layer_that_writes_to_it_says_so():
    mask, _ = window_mask()
    torch._dynamo.reset()
    layer = torch.compile(lambda m: m.logical_not_(), backend="aot_eager", fullgraph=True)
    with pytest.raises(Exception, match="cannot write to a WindowMask"):
        layer(mask)
