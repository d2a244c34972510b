"""Comparisons that also assert which path ran, so that stock code cannot pass for ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from masked_attn.hf import paths


def assert_ran(model: Any, path: str) -> None:
    """Every layer took ``path`` in the last forward; a batch with pads is packed instead."""
    taken = paths(model)
    assert taken, "no layer ran"
    fused = {"masked_attention", "packed_attention"}
    assert len(set(taken.values())) == 1
    assert set(taken.values()) <= (fused if path in fused else {path})


def assert_close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=1e-4)


def identities(model: Any) -> list[Any]:
    """All modules, with their attributes, hooks and parameters: what ``unpatch`` brings back."""
    return [(name, module, dict(module.__dict__)) for name, module in model.named_modules()]
