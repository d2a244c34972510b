"""What benchmarks do on a GPU, as far as a machine without one can show it."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
SIZES = (2, 2, 8, 2)  # batch, heads, head_dim, layers

# The package `common` is found while it is imported, and its modules stay.
sys.path.insert(0, str(ROOT / "benchmarks"))
try:
    from common import gpu_prompt, prompt
    from common.clock import host_clock
    from common.compare import columns, compare
    from common.oracle import true_attention
    from common.report import PRODUCTS, Report
    from common.timing import Contender
    from common.trial import OURS, _why_no_kernel, reason, try_out
    from common.visibility import Visibility
    from common.workloads import Layer, Sizes, make_layers
except ModuleNotFoundError as error:
    pytest.skip(f"needs {error.name}", allow_module_level=True)
finally:
    sys.path.pop(0)

RAGGED = Visibility(2, 16, 16, causal=True, lengths=(5, 16))


@pytest.fixture
def layers() -> list[Layer]:
    return make_layers(Sizes(*SIZES), 16)


def always(result: Tensor) -> Contender:
    return Contender(lambda: result)


def broken() -> Tensor:
    raise RuntimeError("out of order\nand a second line")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_a_script_says_so_in_one_line() -> None:
    script = ROOT / "benchmarks" / "masked_softmax.py"
    command = [sys.executable, str(script), "--device", "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.startswith("--device cuda: ") and done.stderr.count("\n") == 1


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there may be a GPU")
def test_without_a_gpu_make_gpu_says_so_in_one_line() -> None:
    done = subprocess.run([ROOT / "tools" / "gpu.sh"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no GPU" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [None, (5, 16)])
def test_the_truth_is_that_of_ours(
    causal: bool, lengths: tuple[int, ...] | None, layers: list[Layer]
) -> None:
    seen = Visibility(2, 16, 16, causal, lengths)
    ours = prompt.ours(seen)(*layers[-1])
    torch.testing.assert_close(ours, true_attention(seen, layers[-1]).float())


def test_packed_rows_are_the_real_tokens_in_order(layers: list[Layer]) -> None:
    packing = gpu_prompt.Packing(RAGGED)
    query = packing.pack(layers[0])[0]
    assert packing.offsets.tolist() == [0, 5, 21] and packing.longest == 16
    assert query.shape == (21, 2, 8)
    assert torch.equal(query[0], layers[0][0][0, :, 11])
    restored = packing.unpack(query)
    real = RAGGED.real_queries[:, None, :, None]
    assert torch.equal(restored, layers[0][0].where(real, 0.0))


def test_attention_on_packed_rows_is_compared_in_padded_shape(layers: list[Layer]) -> None:
    def varlen(query: Tensor, key: Tensor, value: Tensor, starts: Tensor, *_: Any) -> Tensor:
        rows = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        seen = [Visibility(1, end - start, end - start, causal=True) for start, end in rows]
        cut = [tensor.split([s.keys for s in seen]) for tensor in (query, key, value)]
        outs = [
            prompt.sdpa(rule)(*(part.transpose(0, 1)[None] for part in parts))
            for rule, *parts in zip(seen, *cut, strict=True)
        ]
        return torch.cat([out[0].transpose(0, 1) for out in outs])

    packing = gpu_prompt.Packing(RAGGED)
    packed = [packing.pack(layer) for layer in layers]
    contender = gpu_prompt._packed(varlen, packing, packed)
    truth = true_attention(RAGGED, layers[-1])
    trial = try_out({"packed": contender}, truth, RAGGED.real_queries)
    assert list(trial.works) == ["packed"] and contender.calls == 2


def test_a_backend_that_is_not_there_refuses(layers: list[Layer]) -> None:
    truth = true_attention(RAGGED, layers[-1])
    found = gpu_prompt.gpu_rivals(RAGGED, layers)
    trial = try_out(found, truth, RAGGED.real_queries)
    assert "SDPA math" in trial.works
    assert trial.notes["SDPA cuDNN"].startswith("refused: ")


def test_rivals_that_fail_or_are_wrong_are_noted() -> None:
    truth = torch.ones(1, 1, 4, 2, dtype=torch.float64)
    right, nan = truth.float(), torch.full_like(truth, torch.nan).float()
    found: dict[str, Contender | str] = {
        OURS: always(right + 1),
        "right": always(right),
        "nan": always(nan),
        "shape": always(right[..., :1]),
        "absent": "not installed",
        "broken": Contender(broken),
    }
    trial = try_out(found, truth, None)
    assert list(trial.works) == [OURS, "right"]  # ours is timed even when it is wrong
    assert trial.notes.keys() == {OURS, "nan", "shape", "absent", "broken"}
    assert trial.notes["broken"] == "refused: RuntimeError: out of order"
    assert reason(RuntimeError()) == "RuntimeError"


def test_what_ours_raises_is_raised() -> None:
    with pytest.raises(RuntimeError, match="out of order"):
        try_out({OURS: Contender(broken)}, torch.ones(1, 1, 1, 1), None)


def test_what_pad_queries_get_does_not_count() -> None:
    truth = torch.zeros(1, 1, 2, 1, dtype=torch.float64)
    result = torch.tensor([torch.nan, 0.0]).view(1, 1, 2, 1)
    trial = try_out({"rival": always(result)}, truth, torch.tensor([[False, True]]))
    assert not trial.notes


def test_the_warnings_of_sdpa_say_why() -> None:
    said = [
        "Memory efficient kernel not used because: (Triggered internally at a.cpp:1.)",
        "Memory Efficient attention has been runtime disabled. (Triggered internally at a.cpp:2.)",
        "Flash attention kernel not used because: (Triggered internally at a.cpp:3.)",
        "Flash Attention does not support non-null attn_mask. (Triggered internally at a.cpp:4.)",
    ]
    assert _why_no_kernel(said) == "Flash Attention does not support non-null attn_mask."
    assert _why_no_kernel(["something else"]) == ""


def test_a_case_on_a_gpu_has_a_row_for_every_rival(
    layers: list[Layer], capsys: pytest.CaptureFixture[str]
) -> None:
    options = argparse.Namespace(device="cuda", repeats=1, json=None, plot=None)
    machine: Any = SimpleNamespace(products=1.0, reading=1.0)
    report = Report(options, machine)
    table = report.table("attention", columns(options, PRODUCTS))
    found = {
        OURS: prompt.over_layers(lambda query, key, value: value + 1, layers),
        "SDPA": prompt.over_layers(prompt.sdpa(RAGGED), layers),
        "absent": "not installed",
    }
    compare(
        report,
        table,
        "ragged",
        found,
        truth=lambda: true_attention(RAGGED, layers[-1]),
        rates=lambda ours: report.share_of_products(1.0, ours),
        real_queries=RAGGED.real_queries,
        clock=host_clock,
    )
    timed, absent = table.rows
    assert timed["rival"] == "SDPA" and timed["ratio_best"]
    assert absent["ratio_best"] == "-" and "refused: not installed" in str(absent["note"])
    assert "(ours)" in str(timed["note"])
    with pytest.raises(SystemExit, match="masked_attn is wrong"):
        report.finish()
    assert "| ragged" in capsys.readouterr().out


def gpu_report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_report", ROOT / "tools" / "gpu_report.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_report_is_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = {"machine": {"dtype": "float32"}, "described": "A GPU\nmeasured: much"}
    row = {"case": "ragged", "rival": "SDPA", "ours_best_ms": 0.5, "rival_best_ms": 1.0}
    operator = {"script": "masked_softmax", "tables": {"softmax": [row]}, "notes": []}
    row |= {"ratio_best": 2.0, "note": "a | b"}
    systems = [
        {"workload": "W1", "system": name, "prompt_s": 0.5, "total_s": 1.0, "step_ms": step}
        for name, step in (("stock, sdpa", 6.0), ("masked_attn", 3.0))
    ]
    systems[1]["equal_tokens"] = "7 of 8"
    generate = {"script": "generate", "tables": {"generate": systems}, "notes": ["left out"]}
    (tmp_path / "softmax.json").write_text(json.dumps(head | operator))
    (tmp_path / "generate.json").write_text(json.dumps(head | generate))
    (tmp_path / "tests.txt").write_text("3 passed\n")
    (tmp_path / "problems.txt").write_text("other: failed\n")
    monkeypatch.setattr(sys, "argv", ["gpu_report.py", str(tmp_path)])
    gpu_report().main()
    text = (tmp_path / "report.md").read_text()
    assert "| softmax | ragged | SDPA | 0.5 | 1 | 2 | a / b |" in text
    assert "| generate | W1, step | stock, sdpa | 3 | 6 | 2 |" in text
    assert "ours: 7 of 8 tokens are the same" in text
    assert "3 passed" in text and "other: failed" in text and "generate: left out" in text
    assert len(json.loads((tmp_path / "report.json").read_text())["rows"]) == 4
