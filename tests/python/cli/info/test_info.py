"""``info`` and ``--version``, and a self-check that can fail."""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cli_process import Ran, run_command

import masked_attn
from masked_attn import functional, tested
from masked_attn.cli.info import command as info
from masked_attn.cli.info import model_check
from masked_attn.cli.info.self_check import self_check


def test_info_for_people() -> None:
    ran = run_command("info")
    assert (ran.status, ran.stderr) == (0, "")
    for name in ("masked_attn", "transformers", "compiler", "CPU", "threads", "CUDA kernels"):
        assert re.search(rf"^{name} +\S", ran.stdout, re.MULTILINE), name
    assert re.search(rf"^torch +{re.escape(torch.__version__)} \(built for ", ran.stdout, re.M)
    assert re.search(rf"^python +{platform.python_version()}$", ran.stdout, re.MULTILINE)
    assert re.search(r"^ +(scalar|avx2|avx512|avx512_bf16|amx) used", ran.stdout, re.MULTILINE)
    assert re.search(r"^self-check +passed: \d+ comparisons", ran.stdout, re.MULTILINE)
    assert re.search(r"^GPT-2 +(passed: patched, 2 tokens|not tried)", ran.stdout, re.MULTILINE)


def test_info_for_programs() -> None:
    ran = run_command("info", "--json", MASKED_ATTN_ISA="scalar")
    facts = json.loads(ran.stdout)
    assert ran.status == 0
    assert facts["torch"] == torch.__version__
    assert facts["instruction_set_used"] == facts["instruction_set_forced"] == "scalar"
    assert facts["instruction_set_mixed"] is None
    assert set(facts["instruction_sets"]) <= set(facts["build"]["instruction_sets"])
    assert facts["self_check"]["passed"] is True
    assert facts["self_check"]["seconds"] < 1


def test_info_names_the_set_that_another_takes_loops_from(
    run_here: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a CPU with AMX: bfloat16 in tiles, the rest as on AVX-512."""
    monkeypatch.setattr(masked_attn._C, "selected_instruction_set", lambda: "amx")
    monkeypatch.setattr(masked_attn._C, "mixed_instruction_set", lambda: "avx512")
    monkeypatch.delenv("MASKED_ATTN_ISA", raising=False)
    assert re.search(r"^ +amx used, with loops of avx512$", run_here("info").stdout, re.M)


def test_68_info_patches_the_embedded_model() -> None:
    pytest.importorskip("transformers")
    facts = json.loads(run_command("info", "--json").stdout)
    assert facts["model_check"].keys() == {"passed", "why", "seconds"}
    assert (facts["model_check"]["passed"], facts["model_check"]["why"]) == (True, "")
    assert facts["torch_tested"] is tested.covers(tested.TORCH, facts["torch"])
    wanted = tested.covers(tested.TRANSFORMERS, facts["transformers"])
    assert facts["transformers_tested"] is wanted


def test_68_info_without_transformers_says_so(
    run_here: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    for module in (info, model_check):
        monkeypatch.setattr(module, "installed", lambda package: None)
    ran = run_here("info")
    assert ran.status == 0
    assert re.search(r"^transformers +not installed$", ran.stdout, re.M)
    assert re.search(r"^GPT-2 +not tried: transformers is not installed$", ran.stdout, re.M)


def test_68_info_of_a_transformers_that_cannot_be_imported_fails(
    run_here: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    ran = run_here("info")
    assert ran.status == 1
    assert re.search(r"^GPT-2 +FAILED: this needs transformers", ran.stdout, re.M)


def test_68_info_of_a_gpt2_with_other_names_fails_with_the_command_that_helps(
    run_here: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    block = pytest.importorskip("transformers.models.gpt2.modeling_gpt2").GPT2Block

    def forward(self: Any, hidden_states: Any, kv: Any = None) -> None: ...

    forward.__module__ = block.__module__
    monkeypatch.setattr(block, "forward", forward)
    monkeypatch.setattr(info, "installed", lambda package: "7.1.0")
    ran = run_here("info")
    assert ran.status == 1
    assert "self-check        passed" in ran.stdout
    assert re.search(r"^transformers +7.1.0 \(not tested; 5.4.0, .* were\)$", ran.stdout, re.M)
    wanted = "FAILED: RuntimeError: GPT2Block.forward has no parameter attention_mask"
    command = f'pip install "transformers=={tested.TRANSFORMERS[-1]}"'
    assert re.search(rf"^GPT-2 +{wanted}.*: {re.escape(command)}$", ran.stdout, re.M)


@pytest.mark.parametrize("wrong", ["tokens", "stock"])
def test_68_info_of_a_patch_that_does_nothing_good_fails(
    run_here: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    pytest.importorskip("transformers")
    if wrong == "tokens":
        right = model_check._generate
        answers = iter([[[1, 2], [3, 4]], None])
        monkeypatch.setattr(model_check, "_generate", lambda *a: next(answers) or right(*a))
    else:
        report = {"layers": [{"path": "stock", "why": "a reason"}]}
        monkeypatch.setattr(masked_attn, "report", lambda model: report)
    ran = run_here("info")
    assert ran.status == 1
    line = {"tokens": r"its tokens \[\[1, 2\], \[3, 4\]\] are not those", "stock": "layer 0 ran"}
    assert re.search(rf"^GPT-2 +FAILED: {line[wrong]}", ran.stdout, re.M)


@pytest.mark.parametrize("name", ["masked_softmax", "linear"])
def test_a_wrong_operator_fails_the_check(
    name: str, run_here: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An argument is dropped, as a build might that was given another meaning of it."""
    right = getattr(functional, name)
    dropped = {"masked_softmax": "key_mask", "linear": "activation"}[name]

    def wrong(*args: Any, **options: Any) -> Any:
        del options[dropped]
        return right(*args, **options)

    monkeypatch.setattr(functional, name, wrong)
    ran = run_here("info")
    assert ran.status == 1
    assert f"{4 if name == 'masked_softmax' else 8} FAILED" in ran.stdout
    assert re.search(rf"^{name}.*, torch.float32: \d+ of \d+ values", ran.stdout, re.M)


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
