"""Keys are dropped between the steps of a generation: the tokens are those of a DynamicCache."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import CACHE, generate, gpt2, positions_of, prompts
from transformers import DynamicCache

from masked_attn.hf import KVCache, patch, paths

pytestmark = pytest.mark.integration

IDS, MASK = prompts([4, 9, 12])
BUDGET = 8


def sinks_and_last(layer, length, mask):
    """The first two slots and the last ones, as StreamingLLM keeps them."""
    return torch.cat([torch.arange(2), torch.arange(length - BUDGET + 2, length)])


def last(layer, length, mask):
    return slice(length - BUDGET, length)


def quietest(layer, length, mask):
    """The slots with the smallest keys, and the last two; pads hold what nobody promises."""
    norms = (layer.keys.norm(dim=-1).mean(dim=1) * mask[:, :length]).sum(0)
    norms[-2:] = -1.0
    return norms.topk(BUDGET, largest=False).indices.sort().values


def compress(cache, keep, mask):
    """Keep ``BUDGET`` slots of every layer, and of the mask ``[batch, slots]``."""
    length = cache.get_seq_length()
    if length <= BUDGET:
        return mask
    kept = keep(cache.layers[0], length, mask)
    for layer in cache.layers:
        layer.keys = layer.keys[:, :, kept]
        layer.values = layer.values[:, :, kept]
    return torch.cat([mask[:, :length][:, kept], mask[:, length:]], dim=1)


class Compressing:
    """A forward pre-hook of the model in ``generate``: compresses before each step."""

    def __init__(self, keep):
        self.keep = keep
        self.mask = None

    def __call__(self, model, args, kwargs):
        whole, cache = kwargs["attention_mask"], kwargs[CACHE]
        if self.mask is None:
            self.mask = whole
        else:
            self.mask = torch.cat([self.mask, whole[:, -1:]], dim=1)
            self.mask = compress(cache, self.keep, self.mask)
        return args, {**kwargs, "attention_mask": self.mask}


@pytest.mark.parametrize("settings", [{}, {"max_length": 64}, {"max_length": 2}], ids=str)
@pytest.mark.parametrize("keep", [sinks_and_last, last, quietest])
def test_generate_with_a_compressed_cache(keep, settings):
    found = []
    for model, cache in ((gpt2(), DynamicCache()), (patch(gpt2()), KVCache(**settings))):
        hook = model.register_forward_pre_hook(Compressing(keep), with_kwargs=True)
        found.append(generate(model, IDS, MASK, 20, **{CACHE: cache}))
        hook.remove()
        assert cache.get_seq_length() == BUDGET + 1
    stock, ours = found
    assert torch.equal(ours.sequences, stock.sequences)
    torch.testing.assert_close(
        torch.stack(ours.logits), torch.stack(stock.logits), atol=2e-4, rtol=1e-4
    )
    assert set(paths(model).values()) == {"cached_attention"}
    plain = generate(gpt2(), IDS, MASK, 20)
    assert not torch.equal(plain.sequences, stock.sequences)


@pytest.mark.parametrize("found_by", ["keyword", "closure"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_prompt_compressed_layer_by_layer(dtype, found_by):
    """As kvpress does it: a hook of each attention layer shortens what the layer has stored."""
    found = []
    for patched in (False, True):
        model = patch(gpt2()) if patched else gpt2()
        cache = KVCache(dtype=dtype) if patched else DynamicCache()

        keyword = found_by == "keyword"

        def press(module, args, *rest, cache=cache, keyword=keyword):
            layer = (rest[0][CACHE] if keyword else cache).layers[module.layer_idx]
            layer.keys, layer.values = (part[:, :, -BUDGET:] for part in (layer.keys, layer.values))

        hooks = [
            block.attn.register_forward_hook(press, with_kwargs=keyword)
            for block in model.transformer.h
        ]
        found.append(steps_after_a_prompt(model, cache, hooks))
    atol = 2e-4 if dtype is None else 0.1
    torch.testing.assert_close(found[1], found[0], atol=atol, rtol=1e-4 if dtype is None else 0.1)


@torch.no_grad()
def steps_after_a_prompt(model, cache, hooks, steps=6):
    """Logits ``[batch, steps, vocab]`` of fixed tokens after the prompt, whose hooks then go."""
    positions = positions_of(MASK)
    model(IDS, attention_mask=MASK, position_ids=positions, **{CACHE: cache})
    for hook in hooks:
        hook.remove()
    mask, positions, logits = MASK[:, -BUDGET:], positions[:, -1:], []
    for step in range(steps):
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        tokens = torch.full_like(positions, 7 + step)
        positions = positions + 1
        out = model(tokens, attention_mask=mask, position_ids=positions, **{CACHE: cache})
        logits.append(out.logits)
    assert cache.get_seq_length() == BUDGET + steps
    return torch.cat(logits, dim=1)
