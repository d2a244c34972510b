"""Bad input as a user meets it: one line that names it, exit status 2, no traceback."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_process import Ran, run_command


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["generate"], "no prompt"),
        (["generate", "fine", " "], "prompt 2 is blank"),
        (["generate", b"caf\xe9"], "prompt 1 is not valid UTF-8"),
        (["generate", "--input", "no_such_file.txt"], "no_such_file.txt: No such file"),
        (["generate", "a", "--model", "./no_such_folder"], "./no_such_folder: no such directory"),
        (["generate", "a", "--model", "~nobody_of_this_name/x"], "~nobody_of_this_name"),
        (["generate", "a", "--model", "x" * 300], "--model"),
        (["generate", "a", "--dtype", "int8"], "--dtype"),
        (["generate", "a", "--max-new-tokens", "-1"], "--max-new-tokens"),
        (["generate", "a", "--top-p", "1.5"], "--top-p"),
        (["generate", "a", "--batch-size", "0"], "--batch-size"),
    ],
)
def test_it_is_named_before_any_work(words: list[str], named: str) -> None:
    run_command(*words).assert_refused(named)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "stdin is empty"),
        (b"fine\n\xff\n", "stdin line 2 is not valid UTF-8"),
        (b"fine\n\nfine\n", "stdin line 2 is blank"),
    ],
)
def test_a_bad_line_of_the_input_is_named(data: bytes, named: str) -> None:
    run_command("generate", "--input", "-", stdin=data).assert_refused(named)


def test_57_prompt_and_new_tokens_longer_than_the_context(model_folder: Path) -> None:
    ran = run_command(
        "generate", "a", "My dog is", "--max-new-tokens", "46", "--model", model_folder
    )
    ran.assert_refused("prompt 2 ('My dog is')", "46 new", "limit is 48")


def test_a_name_that_is_no_folder_and_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    ran = run_command("generate", "a", "--model", "some/model", HF_HOME=str(tmp_path))
    ran.assert_refused("some/model", "no such directory", "hub cannot be reached")


def test_transformers_is_missing(
    run_here: Callable[..., Ran], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    ran = run_here("generate", "a", "--model", str(model_folder))
    ran.assert_refused("needs transformers", "pip install 'masked_attn[hf]'")


def test_transformers_is_not_supported(
    run_here: Callable[..., Ran], model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = pytest.importorskip("transformers.models.gpt2.modeling_gpt2").GPT2Block

    def forward(self: Any, states: Any) -> None: ...

    forward.__module__ = block.__module__
    monkeypatch.setattr(block, "forward", forward)
    ran = run_here("generate", "a", "--model", str(model_folder))
    ran.assert_refused("GPT2Block.forward has no parameter hidden_states", "pip install")


def test_a_folder_without_config(run_here: Callable[..., Ran], tmp_path: Path) -> None:
    run_here("generate", "a", "--model", str(tmp_path)).assert_refused(str(tmp_path), "config.json")


@pytest.mark.parametrize(
    ("name", "data", "named"),
    [
        ("config.json", b"{", "config.json"),
        ("tokenizer.json", None, "tokenizer.json"),
        ("tokenizer.json", b"{", "cannot load"),
        ("model.safetensors", None, "model.safetensors"),
        ("model.safetensors", b"\0" * 40, "cannot load"),
    ],
)
def test_a_damaged_model(
    run_here: Callable[..., Ran], model_copy: Path, name: str, data: bytes | None, named: str
) -> None:
    if data is None:
        (model_copy / name).unlink()
    else:
        (model_copy / name).write_bytes(data)
    run_here("generate", "a", "--model", str(model_copy)).assert_refused(str(model_copy), named)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("model_type", "bloom", "is a 'bloom' model, not one of gemma2, gemma3_text, gpt2, "),
        ("n_layer", 3, "the weights lack transformer.h.2."),
        ("n_inner", 64, "the shape of transformer.h."),
        ("vocab_size", 3, "the tokenizer is not the model's own"),
    ],
)
def test_a_config_that_does_not_fit(
    run_here: Callable[..., Ran], model_copy: Path, key: str, value: object, named: str
) -> None:
    config = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps({**config, key: value}))
    run_here("generate", "a", "--model", str(model_copy)).assert_refused(named)


def test_a_prompt_that_gives_no_tokens(run_here: Callable[..., Ran], model_copy: Path) -> None:
    """A tokenizer that drops what it does not know: the row would be padding only."""
    file = model_copy / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["model"].update(vocab={"a": 0}, merges=[])
    file.write_text(json.dumps(tokenizer))
    ran = run_here("generate", "a", "?", "--model", str(model_copy))
    ran.assert_refused("prompt 2 ('?') gives no tokens", "mask")


def test_more_beams_than_tokens(run_here: Callable[..., Ran], model_folder: Path) -> None:
    ran = run_here("generate", "a", "--num-beams", "900", "--model", str(model_folder))
    ran.assert_refused("--num-beams 900")


def test_a_forced_instruction_set_that_is_not_there() -> None:
    ran = run_command("generate", "a", MASKED_ATTN_ISA="sse9")
    ran.assert_refused("MASKED_ATTN_ISA=sse9", "scalar")


def test_the_embedded_model_is_missing(
    run_here: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masked_attn.cli.model.loading.EMBEDDED_MODEL", tmp_path)
    run_here("generate", "a").assert_refused("no embedded model", "--model")
