"""MaskedSelfAttention is four projections around masked_attention."""

from __future__ import annotations

import pytest
import torch

from masked_attn import reference
from masked_attn.modules import MaskedSelfAttention


def expected(module, x, heads, kv_heads, **masks):
    """The same in float64, by the reference."""
    batch, length, _ = x.shape
    module, x = module.double(), x.double()

    def split(y, count):
        return y.view(batch, length, count, module.head_dim).transpose(1, 2)

    query = split(module.q_proj(x), heads)
    key, value = split(module.k_proj(x), kv_heads), split(module.v_proj(x), kv_heads)
    out, _ = reference.masked_attention(query, key, value, **masks)
    return module.out_proj(out.transpose(1, 2).reshape(x.shape)).float()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 3), (False, 2)])
@torch.no_grad()
def test_equals_the_reference(heads, kv_heads, causal, window, masked):
    module = MaskedSelfAttention(16, heads, num_kv_heads=kv_heads, causal=causal, window=window)
    x = torch.randn(2, 7, 16)
    key_mask = torch.arange(7) >= torch.tensor([[3], [0]]) if masked else None
    out = module(x, key_mask=key_mask)
    masks = {"key_mask": key_mask, "causal": causal, "window": window}
    torch.testing.assert_close(
        out, expected(module, x, heads, kv_heads, **masks), atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_attn_mask_and_bias_free():
    module = MaskedSelfAttention(8, 2, bias=False)
    assert sorted(module.state_dict()) == [f"{n}_proj.weight" for n in ("k", "out", "q", "v")]
    x, bias = torch.randn(1, 5, 8), torch.randn(5, 5)
    out = module(x, attn_mask=bias)
    torch.testing.assert_close(
        out, expected(module, x, 2, 2, attn_mask=bias.double()), atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_padding_does_not_change_the_real_rows():
    module = MaskedSelfAttention(8, 2, causal=True)
    x = torch.randn(1, 4, 8)
    padded = torch.cat([torch.full((1, 3, 8), 7.0), x], dim=1)
    key_mask = torch.tensor([[False] * 3 + [True] * 4])
    torch.testing.assert_close(module(padded, key_mask=key_mask)[:, 3:], module(x))


@pytest.mark.parametrize(("heads", "kv_heads"), [(3, None), (4, 3)])
def test_sizes_that_do_not_divide(heads, kv_heads):
    with pytest.raises(ValueError, match="multiple of"):
        MaskedSelfAttention(8, heads, num_kv_heads=kv_heads)
