"""``--compare``: three ways with equal tokens, a tie that is reported, a bug that is found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_process import Ran, run_command

from masked_attn.cli.generate.ties import Judge, Verdict, first_difference

PROMPTS = ("It will rain in the", "I want to eat a big bowl of", "My dog is")
GREEDY = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1, "max_new_tokens": 12}
ROW = r"{name} +\d+\.\d{{3}} +\d+ +\d+\.\d\dx  {tokens}\n"


@pytest.fixture
def patch_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], None]], None]:
    """Put a change of the weights in the place of ``masked_attn.patched``."""

    def install(change: Callable[[Any], None]) -> None:
        @contextmanager
        def patched(model: Any) -> Iterator[Any]:
            before = {name: value.clone() for name, value in model.state_dict().items()}
            with torch.no_grad():
                change(model)
            yield model
            model.load_state_dict(before)

        monkeypatch.setattr("masked_attn.patched", patched)

    return install


@pytest.mark.parametrize("extra", [(), ("--num-beams", "2")])
def test_the_three_ways_agree(
    run_here: Callable[..., Ran], model_folder: Path, extra: tuple[str, ...]
) -> None:
    words = ("--compare", "--repeats", "1", "--batch-size", "2", "--model", str(model_folder))
    ran = run_here("generate", *PROMPTS, *words, *extra)
    assert (ran.status, ran.stderr) == (0, "")
    assert re.search(r"seconds +tokens/s +speed-up  tokens\n", ran.stdout)
    for name, tokens in (
        ("stock, batch", "equal"),
        ("masked_attn, batch", "equal"),
        ("stock, one at a time", "reference"),
    ):
        assert re.search(ROW.format(name=name, tokens=tokens), ran.stdout), ran.stdout
    # The last batch of two holds one prompt, so it has no pads.
    attention = "prompt cached_attention in layers 0-1, steps cached_attention in layers 0-1"
    assert f"attention: masked_attn, {attention}; dtype: float32" in ran.stdout


def test_the_embedded_model_agrees_with_itself() -> None:
    ran = run_command("generate", *PROMPTS, "--compare", "--repeats", "1")
    assert (ran.status, ran.stderr) == (0, ""), ran.stdout
    assert "DIFFERENT" not in ran.stdout


@pytest.mark.parametrize("beams", ["1", "2"])
def test_wrong_tokens_are_shown_and_fail(
    run_here: Callable[..., Ran],
    model_folder: Path,
    patch_that: Callable[..., None],
    beams: str,
) -> None:
    patch_that(lambda model: model.transformer.wpe.weight.zero_())
    words = ("--compare", "--repeats", "1", "--model", str(model_folder), "--num-beams", beams)
    ran = run_here("generate", *PROMPTS, *words)
    assert ran.status == 1
    assert re.search(ROW.format(name="masked_attn, batch", tokens=r"\d DIFFERENT"), ran.stdout)
    assert re.search(r"\nprompt \d .*, masked_attn, batch, new token \d+: .*DIFFERENT", ran.stdout)


def test_a_tie_is_reported_and_passes(
    run_here: Callable[..., Ran], model_copy: Path, patch_that: Callable[..., None]
) -> None:
    """Two tokens with one embedding: their logits are equal, and a last bit decides."""
    from transformers import AutoTokenizer, GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(model_copy)
    ids = AutoTokenizer.from_pretrained(model_copy)(PROMPTS[0], return_tensors="pt")
    best = int(model.generate(**ids, max_new_tokens=1, do_sample=False, pad_token_id=0)[0, -1])
    twin = best + 1
    embedding = model.transformer.wte.weight
    with torch.no_grad():
        embedding[twin] = embedding[best]
    model.save_pretrained(model_copy)

    def nudge(model: Any) -> None:
        model.transformer.wte.weight[twin] *= 1 + 2e-7

    patch_that(nudge)
    words = ("--compare", "--repeats", "1", "--max-new-tokens", "1", "--model", str(model_copy))
    ran = run_here("generate", PROMPTS[0], *words)
    assert ran.status == 0, ran.stdout
    assert re.search(ROW.format(name="masked_attn, batch", tokens="1 tied"), ran.stdout)
    assert re.search(r"\nprompt 1 .* a tie, logits 0 apart, rounding error \d", ran.stdout)


def test_the_judge_measures_gap_and_rounding(model_folder: Path) -> None:
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(model_folder).eval()
    judge = Judge(model, GREEDY)
    with torch.no_grad():
        logits = model(torch.tensor([[5, 6, 7]])).logits[0, -1]
    order = logits.argsort(descending=True).tolist()
    verdict = judge.compare([5, 6, 7], order[0], order[1])
    assert verdict.gap == pytest.approx(float(logits[order[0]] - logits[order[1]]), rel=1e-3)
    assert 0 < verdict.error < 1e-4
    assert not verdict.is_tie
    assert not judge.compare([5, 6, 7], order[0], None).is_tie


def test_a_tie_is_a_gap_within_twice_the_error() -> None:
    assert Verdict(gap=2e-6, error=1e-6).is_tie
    assert not Verdict(gap=2.1e-6, error=1e-6).is_tie


def test_the_first_difference_is_found() -> None:
    assert first_difference([1, 2], [1, 2]) is None
    assert first_difference([1, 2, 3], [1, 4, 3]) == (1, 2, 4)
    assert first_difference([1], [1, 2]) == (1, None, 2)
