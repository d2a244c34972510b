"""``info``: versions, what was built, what this machine uses, and two checks that it works."""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict
from typing import Any

import torch

from masked_attn import _library, tested
from masked_attn.cli.info.machine import cpu_name, installed
from masked_attn.cli.info.model_check import LENGTHS, TOKENS, model_check
from masked_attn.cli.info.self_check import self_check
from masked_attn.cli.version import package_version

__all__ = ["collect", "package_version", "run"]


def run(args: argparse.Namespace) -> int:
    """Print the facts; returns 1 when a check failed, else 0."""
    facts = collect()
    print(json.dumps(facts, indent=2, default=str) if args.json else _as_text(facts))
    works = facts["self_check"]["passed"] and facts["model_check"]["passed"] is not False
    return 0 if works else 1


def collect() -> dict[str, Any]:
    """All facts, ready for JSON."""
    library = _library.load()
    check = self_check()
    torch_version, transformers = str(torch.__version__), installed("transformers")
    return {
        "masked_attn": package_version(),
        "python": platform.python_version(),
        "torch": torch_version,
        "torch_tested": tested.covers(tested.TORCH, torch_version),
        "transformers": transformers,
        "transformers_tested": tested.covers(tested.TRANSFORMERS, transformers or ""),
        "build": dict(library.build_info()),
        "cpu": cpu_name(),
        "instruction_sets": list(library.instruction_sets()),
        "instruction_set_used": library.selected_instruction_set(),
        "instruction_set_mixed": library.mixed_instruction_set(),
        "instruction_set_forced": os.environ.get("MASKED_ATTN_ISA") or None,
        "threads": torch.get_num_threads(),
        "cuda_device": torch.cuda.is_available(),
        "self_check": {**asdict(check), "passed": check.passed},
        "model_check": asdict(model_check()),
    }


def _as_text(facts: dict[str, Any]) -> str:
    build = facts["build"]
    used = f"{facts['instruction_set_used']} used"
    used += " (forced)" if facts["instruction_set_forced"] else ""
    if facts["instruction_set_mixed"]:
        used += f", with loops of {facts['instruction_set_mixed']}"
    check = facts["self_check"]
    reason = build.get("cuda_reason")
    built_for = build["torch_version"]
    transformers = facts["transformers"] or "not installed"
    if facts["transformers"]:
        transformers += f" ({_tested(facts, 'transformers')})"
    cuda = "built" if build["cuda"] else "not built" + (f" ({reason})" if reason else "")
    device = "a CUDA device is there" if facts["cuda_device"] else "no CUDA device"
    rows = [
        ("masked_attn", facts["masked_attn"]),
        ("python", facts["python"]),
        ("torch", f"{facts['torch']} (built for {built_for}; {_tested(facts, 'torch')})"),
        ("transformers", transformers),
        ("compiler", build["compiler"]),
        ("CPU", facts["cpu"]),
        ("instruction sets", f"{', '.join(build['instruction_sets'])} built"),
        ("", f"{', '.join(facts['instruction_sets'])} run on this CPU"),
        ("", used),
        ("threads", facts["threads"]),
        ("CUDA kernels", f"{cuda}; {device}"),
        ("self-check", _verdict(check)),
        ("GPT-2", _model_verdict(facts["model_check"])),
    ]
    return "\n".join([f"{name:<18}{value}" for name, value in rows] + check["failures"])


def _verdict(check: dict[str, Any]) -> str:
    word = "passed" if check["passed"] else f"{len(check['failures'])} FAILED"
    return f"{word}: {check['cases']} comparisons with the reference in {check['seconds']:.2f} s"


def _tested(facts: dict[str, Any], library: str) -> str:
    if facts[f"{library}_tested"]:
        return "tested"
    return f"not tested; {', '.join(getattr(tested, library.upper()))} were"


def _model_verdict(check: dict[str, Any]) -> str:
    if check["passed"] is None:
        return f"not tried: {check['why']}"
    if not check["passed"]:
        return f"FAILED: {check['why']}"
    what = f"patched, {TOKENS} tokens for each of {len(LENGTHS)} prompts as the stock model"
    return f"passed: {what}, in {check['seconds']:.2f} s"
