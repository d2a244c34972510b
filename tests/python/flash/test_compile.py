"""One graph under ``torch.compile``, where nothing asks the host for numbers of a tensor."""

from __future__ import annotations

import pytest
import torch
from support.flash_oracle import tensors

from masked_attn.flash import flash_attn_func, flash_attn_varlen_func, flash_attn_with_kvcache

CU = torch.tensor([0, 3, 10], dtype=torch.int32)


def dense(q, k, v, slopes):
    options = {"causal": True, "window_size": (3, 1), "softcap": 2.0}
    return flash_attn_func(q, k, v, **options, alibi_slopes=slopes, return_attn_probs=True)[:2]


def varlen(q, k, v, slopes):
    packed = (tensor.flatten(0, 1) for tensor in (q, k, v))
    return flash_attn_varlen_func(*packed, CU, CU, 7, 7, causal=True, alibi_slopes=slopes)


def cached(q, k, v, slopes):
    caches = [tensor.new_zeros(2, 9, 4, 8) for tensor in (k, v)]
    options = {"causal": True, "alibi_slopes": slopes, "cache_seqlens": 3}
    return flash_attn_with_kvcache(q, *caches, k, v, **options), *caches


@pytest.mark.parametrize("function", [dense, varlen, cached])
def test_one_graph(function):
    arguments = [*tensors(*[(2, 5, 4, 8)] * 3), torch.rand(4)]
    torch._dynamo.reset()
    graph = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(graph(*arguments), function(*arguments), rtol=0, atol=0)
