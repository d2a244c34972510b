"""Log-probabilities of a padded batch, against stock transformers and each row alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import masked_attn
from masked_attn.cli.score import scoring
from masked_attn.cli.score.scoring import score_batch

ROWS = ([5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15], [16, 17], [18] * 40)


@pytest.fixture
def model(model_folder: Path) -> Any:
    from transformers import GPT2LMHeadModel

    return GPT2LMHeadModel.from_pretrained(model_folder).eval()


def pad(side: str) -> tuple[Tensor, Tensor]:
    longest = max(map(len, ROWS))
    pads = [[0] * (longest - len(row)) for row in ROWS]
    ones = [[1] * len(row) for row in ROWS]
    join = (lambda pad, row: pad + row) if side == "left" else (lambda pad, row: row + pad)
    ids = torch.tensor([join(*pair) for pair in zip(pads, ROWS, strict=True)])
    return ids, torch.tensor([join(*pair) for pair in zip(pads, ones, strict=True)])


def expected(model: Any, row: list[int]) -> Tensor:
    with torch.no_grad():
        logits = model(torch.tensor([row])).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(1, torch.tensor(row[1:])[:, None])[:, 0]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("patched", [True, False])
def test_they_are_those_of_each_row_alone(model: Any, side: str, patched: bool) -> None:
    alone = [expected(model, row) for row in ROWS]
    if patched:
        masked_attn.patch(model)
    scores = score_batch(model, *pad(side))
    assert [len(row) for row in scores] == [len(row) - 1 for row in ROWS]
    for row, wanted in zip(scores, alone, strict=True):
        torch.testing.assert_close(torch.tensor(row), wanted, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("patched", [True, False])
def test_their_mean_is_the_loss_of_stock(model: Any, patched: bool) -> None:
    losses = []
    for row in ROWS:
        ids = torch.tensor([row])
        with torch.no_grad():
            losses.append(float(model(ids, labels=ids).loss))
    if patched:
        masked_attn.patch(model)
    for row, loss in zip(score_batch(model, *pad("right")), losses, strict=True):
        if row:
            assert -sum(row) / len(row) == pytest.approx(loss, rel=1e-5)
        else:
            assert math.isnan(loss)


def test_one_forward_pass_without_a_cache(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from masked_attn.hf import patching

    masked_attn.patch(model)
    calls: list[dict[str, Any]] = []
    forward = model.transformer.forward
    monkeypatch.setattr(
        model.transformer, "forward", lambda **given: calls.append(given) or forward(**given)
    )
    score_batch(model, *pad("left"))
    monkeypatch.undo()
    assert len(calls) == 1
    assert calls[0]["use_cache"] is False
    assert set(patching.paths(model).values()) == {"packed_attention"}


def test_logits_are_made_for_a_few_tokens_at_a_time(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score_batch(model, *pad("left"))
    heights = []
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", 5 * model.config.vocab_size)
    model.lm_head.register_forward_hook(lambda _, given, out: heights.append(len(out)))
    pieces = score_batch(model, *pad("left"))
    assert max(heights) == 5
    assert sum(heights) == sum(len(row) - 1 for row in ROWS)
    for one, other in zip(whole, pieces, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(model: Any, dtype: torch.dtype) -> None:
    scores = score_batch(masked_attn.patch(model.to(dtype)), *pad("left"))
    tolerance = 0.5 if dtype == torch.bfloat16 else 1e-4
    for row, alone in zip(scores, (expected(model, row) for row in ROWS), strict=True):
        assert row == pytest.approx(alone.tolist(), abs=tolerance)


def test_a_batch_of_single_tokens(model: Any) -> None:
    assert score_batch(model, torch.tensor([[5], [6]]), torch.ones(2, 1)) == [[], []]
