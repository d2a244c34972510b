"""``bench`` on a tiny model: rows, figures for programs, pictures, failures. No speed is tested."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_process import Ran

import masked_attn
from masked_attn.cli.bench import command, running
from masked_attn.cli.bench.setting import Setting
from masked_attn.cli.bench.systems import SYSTEMS, System, make_model

FIGURE = r"\d+\.\d+"
Bench = Callable[..., Ran]
# Of every row with figures, and what a row without them has as well.
KEYS = {"prompt_s", "step_ms", "total_s", "tokens_per_s", "peak_bytes", "added_bytes"}
KEYS |= {"step_range_ms", "spread"}
KEYS |= {"speed_up", "equal_rows", "rows", "prompt_samples_s", "total_samples_s"}
KEYS |= {"system", "label", "switches", "error", "memory_error"}


@pytest.fixture
def bench(run_here: Callable[..., Ran], model_folder: Path) -> Bench:
    """A short run, without the processes that measure memory."""

    def run(*words: str) -> Ran:
        prompts = ("--lengths", "3,5,...,11", "--new-tokens", "4", "--repeats", "1")
        model = ("--model", str(model_folder), "--threads", "1")
        return run_here("bench", *model, *prompts, "--no-memory", *words)

    return run


@pytest.fixture
def setting(model_folder: Path) -> Setting:
    return Setting("124M", str(model_folder), "float32", "cpu", 1, (3, 7), 4)


def row_of(ran: Ran, label: str) -> list[str]:
    """The cells of the row with this label."""
    found = re.search(rf"^\| {re.escape(label)} +\|(.*)\|$", ran.stdout, re.MULTILINE)
    assert found, ran.stdout
    return [cell.strip() for cell in found[1].split("|")]


def test_every_system_has_a_row(bench: Bench) -> None:
    ran = bench()
    assert (ran.status, ran.stderr) == (0, ""), ran
    for system in SYSTEMS.values():
        prompt, step, total, spread, rate, peak, added, speed_up, same = row_of(ran, system.label)
        assert re.fullmatch(FIGURE, prompt) and re.fullmatch(FIGURE, total)
        assert re.fullmatch(rf"{FIGURE}|\?", step) and spread == "-"  # it may drown in the noise
        assert rate.isdecimal() and (peak, added) == ("-", "-")
        assert re.fullmatch(FIGURE + "x", speed_up)
        # A smaller cache rounds; everything else gives the same tokens.
        assert "cache-" in system.name or same == "5 of 5 rows"
    assert row_of(ran, "stock sdpa")[7] == "1.00x"


def test_the_head_says_machine_model_and_prompts(bench: Bench, model_folder: Path) -> None:
    machine, model, prompts = bench("--systems", "stock-sdpa").stdout.splitlines()[:3]
    assert f"torch {torch.__version__}" in machine and "1 thread;" in machine
    assert model == f"{model_folder}, float32"
    assert prompts.startswith("5 prompts of 3, 5, ..., 11 tokens (36% padding), 4 new; greedy")


def test_figures_for_programs(bench: Bench) -> None:
    ran = bench("--json", "--systems", "fast-linear,stock-sdpa", "--repeats", "2")
    found = json.loads(ran.stdout)
    assert found["machine"]["threads"] == 1 and found["gpu"] is None
    assert found["setting"]["lengths"] == [3, 5, 7, 9, 11]
    stock, ours = found["systems"]
    assert (stock["system"], ours["system"]) == ("stock-sdpa", "fast-linear")
    for row in (stock, ours):
        assert set(row) == KEYS and row["error"] is None
        assert row["prompt_s"] == min(row["prompt_samples_s"])
        assert row["total_s"] == min(row["total_samples_s"]) and len(row["total_samples_s"]) == 2
        step = 1e3 * (row["total_s"] - row["prompt_s"]) / 3
        assert row["step_ms"] == (pytest.approx(step) if step > 0 else None)
        assert row["tokens_per_s"] == pytest.approx(5 * 4 / row["total_s"])
        assert row["speed_up"] == pytest.approx(stock["total_s"] / row["total_s"])
        assert row["equal_rows"] == row["rows"] == 5
    assert ours["switches"] == {
        **dict.fromkeys(("padding_free", "fuse_activation", "fast_linear"), True),
        "cache_dtype": None,
    }


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_picture_and_a_file_beside_the_table(
    bench: Bench, tmp_path: Path, ending: str, start: bytes
) -> None:
    pytest.importorskip("matplotlib")
    picture, figures = tmp_path / f"bars.{ending}", tmp_path / "figures.json"
    words = ("--plot", str(picture), "--json", str(figures))
    ran = bench("--systems", "stock-eager,stock-sdpa", *words)
    assert ran.status == 0, ran
    assert picture.read_bytes().startswith(start)
    assert len(json.loads(figures.read_text())["systems"]) == 2
    assert row_of(ran, "stock eager")


def test_matplotlib_is_missing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    ran = bench("--plot", str(tmp_path / "bars.png"))
    ran.assert_refused("--plot needs matplotlib", "pip install 'masked_attn[plot]'")
    assert bench("--systems", "stock-sdpa").status == 0


def test_transformers_is_missing(
    run_here: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    run_here("bench").assert_refused("needs transformers", "pip install 'masked_attn[hf]'")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--lengths", "3,,4"], "'3,,4'"),
        (["--lengths", "46"], "46 tokens and 4 new are 50, the limit of this model is 48"),
        (["--new-tokens", "1"], "--new-tokens"),
        (["--systems", "stock-sdpa,vllm"], "'vllm' is not one of stock-eager, stock-sdpa"),
        (["--size", "124M"], "--size: not allowed with argument --model"),
        (["--workload", "W4"], "--workload"),
        (["--plot", "bars.gif"], "--plot bars.gif: the name must end in .png or .svg"),
        (["--json", "no_such_folder/a.json"], "no_such_folder/a.json: no such directory"),
        (["--json", "/"], "cannot write /: it is a directory"),
    ],
)
def test_what_cannot_be_used_is_named(bench: Bench, words: list[str], named: str) -> None:
    bench(*words).assert_refused(named)


def test_an_unknown_size_is_named(run_here: Callable[..., Ran]) -> None:
    run_here("bench", "--size", "7B").assert_refused("'7B' is not one of 124M, 355M", "demo")


def test_a_device_that_is_not_there(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "why_no_gpu", lambda: "no GPU today")
    bench("--device", "cuda").assert_refused("--device cuda: no GPU today")


@pytest.mark.parametrize(("broken", "status"), [("stock-eager", 0), ("padding-free", 1)])
@pytest.mark.parametrize("when", ["made", "timed"])
def test_a_system_that_fails_has_a_row_that_says_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, broken: str, status: int, when: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError("no kernel for this\nmore")

    def make(system: System, stock: Any) -> Any:
        if system.name == broken and when == "made":
            fail()
        model = make_model(system, stock)
        if system.name == broken:
            first = model.generate
            calls = iter((first, first, fail))  # the warm-up, the prompt, all tokens
            model.generate = lambda **words: next(calls)(**words)
        return model

    monkeypatch.setattr(running, "make_model", make)
    ran = bench("--systems", "stock-eager,stock-sdpa,padding-free")
    assert (ran.status, ran.stderr) == (status, "")
    *figures, reason = row_of(ran, SYSTEMS[broken].label)
    assert set(figures) == {"-"}
    assert reason == "failed: NotImplementedError: no kernel for this"
    assert row_of(ran, "stock sdpa")[7] == "1.00x"


def test_a_picture_of_what_failed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to draw must not be an error on top of the error."""
    pytest.importorskip("matplotlib")

    def fail(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(running, "make_model", fail)
    ran = bench("--systems", "stock-sdpa", "--plot", str(tmp_path / "bars.png"))
    assert ran.status == 0
    assert row_of(ran, "stock sdpa")[-1] == "failed: ValueError"
    assert (tmp_path / "bars.png").stat().st_size > 0


def test_each_level_is_patched_with_its_switches(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: dict[str, dict[str, Any]] = {}
    stock = setting.load()
    for name, system in SYSTEMS.items():

        def patch(model: Any, *, name: str = name, **switches: Any) -> Any:
            calls[name] = switches
            return model

        monkeypatch.setattr(masked_attn, "patch", patch)
        make_model(system, stock)
    on = [("padding_free", True), ("fuse_activation", True), ("fast_linear", True)]
    off = dict.fromkeys(("padding_free", "fuse_activation", "fast_linear"), False)
    assert calls == {
        "attention": {**off, "cache_dtype": None},
        "padding-free": {**off, **dict(on[:1]), "cache_dtype": None},
        "activation": {**off, **dict(on[:2]), "cache_dtype": None},
        "fast-linear": {**dict(on), "cache_dtype": None},
        "cache-bf16": {**dict(on), "cache_dtype": torch.bfloat16},
        "cache-fp16": {**dict(on), "cache_dtype": torch.float16},
    }


def test_systems_share_weights_and_leave_the_stock_model_alone(setting: Setting) -> None:
    stock = setting.load()
    eager = make_model(SYSTEMS["stock-eager"], stock)
    ours = make_model(SYSTEMS["attention"], stock)
    for model in (eager, ours):
        for mine, shared in zip(model.parameters(), stock.parameters(), strict=True):
            assert mine is shared
    assert eager.config._attn_implementation == "eager"
    assert stock.config._attn_implementation == ours.config._attn_implementation == "sdpa"
    assert type(stock.transformer.h[0].attn).__name__ == "GPT2Attention"


def test_systems_take_turns(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way round in every other turn; before that, one warm-up each."""
    seen: list[tuple[str, int]] = []

    def generate(model: Any, batch: Any, new_tokens: int, options: Any) -> torch.Tensor:
        seen.append((model.config._attn_implementation, new_tokens))
        return torch.zeros(5, new_tokens)

    monkeypatch.setattr(running, "generate", generate)
    assert bench("--systems", "stock-eager,stock-sdpa", "--repeats", "2").status == 0
    eager, sdpa = ([(kind, 1), (kind, 4)] for kind in ("eager", "sdpa"))
    assert seen == [("eager", 2), ("sdpa", 2), *eager, *sdpa, *sdpa, *eager]


def clock_of(monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
    """Let the timed calls take these seconds, prompt and total in turn; then Ctrl-C comes."""
    left = iter(seconds)

    def clock(run: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
        took = next(left, None)
        if took is None:
            raise KeyboardInterrupt
        return took, run()

    monkeypatch.setattr(running, "host_clock", clock)


NOISE = "NOISE: runs differ by more than a step (stock sdpa)"


@pytest.mark.parametrize(
    ("seconds", "step", "spread", "noise"),
    [
        ([1.0, 1.3, 1.0, 1.33], "100.00 (100.00 to 110.00)", "2%", False),
        ([1.0, 1.3, 1.0, 1.9], "100.00 (100.00 to 300.00)", "46%", True),
        ([1.0, 1.3, 1.6, 1.3], "100.00 (-100.00 to 100.00)", "0%", True),
        ([1.6, 1.3, 1.6, 1.3], "? (-100.00 to -100.00)", "0%", True),
    ],
)
def test_steps_have_a_range_and_noise_a_word(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    seconds: list[float],
    step: str,
    spread: str,
    noise: bool,
) -> None:
    clock_of(monkeypatch, seconds)
    ran = bench("--systems", "stock-sdpa", "--repeats", "2")
    assert ran.status == 0
    cells = row_of(ran, "stock sdpa")
    assert (cells[1], cells[3]) == (step, spread)
    assert (NOISE in ran.stdout) == noise


def test_a_negative_step_of_one_run_has_no_figure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_of(monkeypatch, [1.6, 1.3])
    ran = bench("--systems", "stock-sdpa")
    assert row_of(ran, "stock sdpa")[1] == "?" and NOISE in ran.stdout
    clock_of(monkeypatch, [1.6, 1.3])
    (row,) = json.loads(bench("--systems", "stock-sdpa", "--json").stdout)["systems"]
    assert row["step_ms"] is None and row["step_range_ms"] == [pytest.approx(-100)] * 2


def test_ctrl_c_keeps_what_was_measured(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "figures.json"
    words = ("--systems", "stock-eager,stock-sdpa,attention", "--repeats", "3")
    clock_of(monkeypatch, [1.0, 1.3, 0.5, 0.8, 0.7])
    ran = bench(*words, "--json", str(file))
    assert (ran.status, ran.stderr) == (130, "masked_attn: interrupted; after 1 of 3 runs\n")
    assert row_of(ran, "stock sdpa")[2] == "0.800"
    assert row_of(ran, "ours: attention only")[-1] == "not measured"
    found = json.loads(file.read_text())
    assert found["interrupted"] and found["systems"][0]["total_samples_s"] == [1.3]
    clock_of(monkeypatch, [1.0])
    ran = bench(*words)
    assert (ran.status, ran.stderr) == (130, "masked_attn: interrupted\n")
    assert "| stock" not in ran.stdout


def test_no_memory_figure_is_no_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "measure_alone", lambda *_: "stopped by signal 9")
    args = ("--systems", "stock-sdpa")
    assert "no memory figure" not in bench(*args).stdout
    monkeypatch.setattr(command, "_check", lambda args, *_: setattr(args, "no_memory", False))
    ran = bench(*args)
    assert ran.status == 0
    assert row_of(ran, "stock sdpa")[5:7] == ["-", "-"]
    assert "no memory figure of stock sdpa: stopped by signal 9" in ran.stdout
