"""``info`` and ``--version``, and a self-check that can fail."""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Callable

import pytest
import torch
from cli_process import Ran, run_command

from masked_attn import functional
from masked_attn.cli.self_check import self_check


def test_info_for_people() -> None:
    ran = run_command("info")
    assert (ran.status, ran.stderr) == (0, "")
    for name in ("masked_attn", "transformers", "compiler", "CPU", "threads", "CUDA kernels"):
        assert re.search(rf"^{name} +\S", ran.stdout, re.MULTILINE), name
    assert re.search(rf"^torch +{re.escape(torch.__version__)} \(built for ", ran.stdout, re.M)
    assert re.search(rf"^python +{platform.python_version()}$", ran.stdout, re.MULTILINE)
    assert re.search(r"^ +(scalar|avx2|avx512|avx512_bf16) used", ran.stdout, re.MULTILINE)
    assert re.search(r"^self-check +passed: \d+ comparisons", ran.stdout, re.MULTILINE)


def test_info_for_programs() -> None:
    ran = run_command("info", "--json", MASKED_ATTN_ISA="scalar")
    facts = json.loads(ran.stdout)
    assert ran.status == 0
    assert facts["torch"] == torch.__version__
    assert facts["instruction_set_used"] == facts["instruction_set_forced"] == "scalar"
    assert set(facts["instruction_sets"]) <= set(facts["build"]["instruction_sets"])
    assert facts["self_check"]["passed"] is True
    assert facts["self_check"]["seconds"] < 1


def test_info_does_not_import_transformers(
    run_here: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert run_here("info").status == 0


def test_a_wrong_operator_fails_the_check(
    run_here: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key mask is dropped, as a build might that was given another meaning of it."""
    right = functional.masked_softmax
    monkeypatch.setattr(
        functional, "masked_softmax", lambda scores, *, key_mask, **rest: right(scores, **rest)
    )
    ran = run_here("info")
    assert ran.status == 1
    assert "4 FAILED" in ran.stdout
    assert re.search(r"^masked_softmax, torch.float32: \d+ of \d+ values", ran.stdout, re.M)


def test_an_operator_that_raises_or_gives_nan_fails_the_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("illegal\nmore")

    right = functional.cached_attention
    monkeypatch.setattr(functional, "expand_mask", broken)
    monkeypatch.setattr(functional, "cached_attention", lambda *a, **k: right(*a, **k) * torch.nan)
    failures = self_check().failures
    assert len(failures) == 8
    assert "expand_mask, torch.float32: illegal" in failures


def test_version(run_here: Callable[..., Ran]) -> None:
    ran = run_here("--version")
    assert ran.status == 0
    assert re.fullmatch(r"masked_attn \d+\.\d+\S*\n", ran.stdout)


@pytest.mark.parametrize("command", ["", "generate", "score", "bench", "info"])
def test_help(run_here: Callable[..., Ran], command: str) -> None:
    ran = run_here(*command.split(), "--help")
    assert ran.status == 0
    assert ran.stdout.startswith("usage: python -m masked_attn")
