"""Check a build for CUDA without a GPU: what is registered, and what a call says."""

from __future__ import annotations

import torch

import masked_attn
from masked_attn import _C

# These follow autocast; masks and scores keep the dtype they have.
PRODUCTS = (
    "masked_attention",
    "_masked_attention_forward",
    "packed_attention",
    "_packed_attention_forward",
    "cached_attention",
    "cached_attention.device",
    "linear",
)
OTHERS = ("expand_mask", "masked_softmax")


def check_registrations() -> None:
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    for name in (*PRODUCTS, *OTHERS):
        keys = ["CPU", "CUDA", "Meta", "Autograd"]
        if name in PRODUCTS:
            keys += ["AutocastCPU", "AutocastCUDA"]
        missing = [key for key in keys if not has_kernel(f"masked_attn::{name}", key)]
        assert not missing, f"{name} has no kernel for {missing}"
        print(f"{name}: {', '.join(keys)}")


def check_a_call() -> None:
    query = torch.randn(2, 3, 4, 8)
    assert masked_attn.masked_attention(query, query, query).shape == query.shape
    if torch.cuda.is_available():
        on_gpu = query.cuda()
        result = masked_attn.masked_attention(on_gpu, on_gpu, on_gpu)
        expected = masked_attn.masked_attention(query, query, query)
        torch.testing.assert_close(result.cpu(), expected)
        print("a GPU is here: it gives the same attention as the CPU")
        return
    try:
        query.cuda()
    except RuntimeError as error:
        print(f"no GPU here; torch says: {str(error).splitlines()[0]}")
    else:
        raise AssertionError("torch made a CUDA tensor without a GPU")


def main() -> None:
    facts = _C.build_info()
    assert facts["cuda"], f"built without CUDA: {facts['cuda_reason']}"
    print(f"masked_attn {facts['version']} for torch {facts['torch_version']}, with CUDA kernels")
    check_registrations()
    check_a_call()


if __name__ == "__main__":
    main()
