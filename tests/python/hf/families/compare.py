"""Comparisons that also say which path ran, so that stock code cannot pass for ours."""

from __future__ import annotations

from typing import Any

import torch
from hf.checks import assert_close
from torch import Tensor

from masked_attn.hf import paths, report

OURS = {"packed_attention", "cached_attention", "masked_attention"}


def assert_ours(model: Any) -> None:
    """No layer of the last forward ran stock code, and every layer ran."""
    taken = paths(model)
    assert len(taken) == model.config.num_hidden_layers, f"layers that ran: {taken}"
    assert set(taken.values()) <= OURS, taken


def assert_path(model: Any, path: str) -> None:
    """Every layer of the last forward took this path."""
    assert_ours(model)
    assert set(paths(model).values()) == {path}, report(model)


def assert_padding_free(model: Any) -> None:
    """The layers ran without pads; attention itself may see those that somebody reads."""
    assert_ours(model)
    assert report(model)["padding_free"], report(model)


def assert_stock_says_why(model: Any) -> None:
    """Every layer of the last forward ran stock code, and the report has a reason for each."""
    assert set(paths(model).values()) == {"stock"}, paths(model)
    assert all(layer["why"] for layer in report(model)["layers"])


def assert_real_close(ours: Tensor, expected: Tensor, real: Tensor) -> None:
    """Equal at real tokens; no NaN anywhere, pads included."""
    assert ours.shape == expected.shape
    assert torch.isfinite(ours).all()
    assert_close(ours[real], expected[real])


def assert_rows_close(ours: Tensor, expected: list[Tensor], real: Tensor) -> None:
    """The real tokens of every row equal that row alone."""
    for row, alone in enumerate(expected):
        assert_close(ours[row, real[row]], alone)


def gradients(model: Any) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found
    return found


def assert_same_gradients(ours: Any, expected: Any) -> None:
    mine, theirs = gradients(ours), gradients(expected)
    assert mine.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(mine[name], gradient, atol=1e-5, rtol=1e-4, msg=name)
