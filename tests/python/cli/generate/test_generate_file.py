"""``generate --output``: line n of the output is line n of the input, whatever happened before."""

from __future__ import annotations

import json
import random
import re
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cli_process import Ran, run_command

from masked_attn.cli.files.run import FileRun
from masked_attn.cli.generate.file import batch_seed

TEXT = "It will rain in the morning and I want to eat a big bowl of soup"
Generate = Callable[..., Ran]


@pytest.fixture
def generate(run_here: Callable[..., Ran], model_folder: Path) -> Generate:
    """``generate`` of a few tokens with the tiny model."""

    def run(*words: str | Path) -> Ran:
        model = ("--model", str(model_folder), "--max-new-tokens", "4", "--batch-size", "2")
        return run_here("generate", *model, *map(str, words))

    return run


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Prompts of different lengths, more than one window of them; every tenth line is broken."""
    file = tmp_path / "in.jsonl"
    draw = random.Random(5)
    lines = []
    for number in range(1, 151):
        prompt = " ".join(draw.choices(TEXT.split(), k=draw.randint(1, 6)))
        broken = '{"prompt": ' if number % 20 == 0 else f'{{"id": {number}}}'
        record = json.dumps({"id": number, "prompt": prompt})
        lines.append(broken if number % 10 == 0 else record)
    file.write_text("\n".join(lines) + "\n")
    return file


def read(file: Path) -> list[dict[str, Any]]:
    data = file.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def write(file: Path, prompts: Sequence[str]) -> Path:
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return file


def test_lines_stay_in_order_with_what_they_carry(
    generate: Generate, many: Path, tmp_path: Path
) -> None:
    ran = generate("--input", many, "--output", tmp_path / "out")
    assert ran.status == 1, ran.stderr
    lines, given = read(tmp_path / "out"), many.read_text().splitlines()
    assert len(lines) == len(given) == 150
    for number, (line, text) in enumerate(zip(lines, given, strict=True), 1):
        if number % 10:
            assert isinstance(line.pop("completion"), str)
            assert line == json.loads(text)
        elif number % 20 == 0:
            assert line.keys() == {"error"}
        else:
            assert line == {"id": number, "error": 'no field "prompt"'}
    assert "masked_attn: " + str(many) + ' line 10: no field "prompt"\n' in ran.stderr
    assert ran.stderr.endswith("masked_attn: 15 of 150 lines have an error\n")
    assert ran.stderr.count("\n") == 16
    assert re.match(r"150 lines\n\d+ new tokens in ", ran.stdout)
    assert "attention: masked_attn, prompt cached_attention in layers 0-1" in ran.stdout
    assert ", steps cached_attention in layers 0-1" in ran.stdout


@pytest.mark.parametrize("beams", [1, 3])
def test_completions_are_those_of_each_prompt_alone_in_stock_transformers(
    generate: Generate, model_folder: Path, tmp_path: Path, beams: int
) -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = GPT2LMHeadModel.from_pretrained(model_folder).eval()
    prompts = ["My dog is", "It will rain in the big house and", "We", "I want", "grüße 🐕"]
    how = ("--num-beams", str(beams), "--num-return-sequences", str(beams))
    out = tmp_path / "out"
    assert (
        generate("--input", write(tmp_path / "in.jsonl", prompts), "--output", out, *how).status
        == 0
    )
    for prompt, line in zip(prompts, read(out), strict=True):
        ids = tokenizer(prompt, return_tensors="pt")
        rows = model.generate(
            **ids,
            max_new_tokens=4,
            num_beams=beams,
            num_return_sequences=beams,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
        texts = tokenizer.batch_decode(rows[:, ids["input_ids"].shape[1] :])
        assert line == {
            "prompt": prompt,
            **({"completion": texts[0]} if beams == 1 else {"completions": texts}),
        }


def test_text_in_jsonl_out_and_what_does_not_fit_is_an_error_of_its_line(
    generate: Generate, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_bytes("grüße\r\n\n".encode() + b"a " * 80 + b"\nMy dog is")
    ran = generate("--input", tmp_path / "in.txt", "--output", tmp_path / "out")
    assert ran.status == 1
    first, blank, long, last = read(tmp_path / "out")
    assert first.keys() == last.keys() == {"prompt", "completion"}
    assert (first["prompt"], last["prompt"]) == ("grüße", "My dog is")
    assert blank == {"prompt": "", "error": "the prompt is blank"}
    assert "is too long: " in long["error"] and "the model's limit is 48" in long["error"]
    assert "in.txt line 3: the prompt is too long" in ran.stderr


def test_a_file_of_nothing_but_broken_lines(generate: Generate, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("1\n2\n3\n")
    ran = generate("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out")
    assert (ran.status, ran.stdout) == (1, "3 lines, no new tokens\n")
    assert read(tmp_path / "out") == [{"error": "not a JSON object"}] * 3


def test_fields_of_other_names(generate: Generate, tmp_path: Path) -> None:
    (tmp_path / "in").write_text('{"text": "My dog is", "completion": 1}\n')
    words = ("--format", "jsonl", "--prompt-field", "text", "--output-field", "answer")
    assert generate("--input", tmp_path / "in", "--output", tmp_path / "out", *words).status == 0
    (line,) = read(tmp_path / "out")
    assert list(line) == ["text", "completion", "answer"]


@pytest.mark.parametrize("sampling", [(), ("--do-sample", "--seed", "3")])
def test_a_run_that_was_cut_anywhere_gives_the_same_bytes(
    generate: Generate, many: Path, tmp_path: Path, sampling: tuple[str, ...]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    generate("--input", many, "--output", whole, *sampling)
    data = whole.read_bytes()
    ends = [index + 1 for index, byte in enumerate(data) if byte == ord("\n")]
    draw = random.Random(7)
    for size in [0, 1, ends[63], ends[64] + 1, len(data) - 1, len(data), *draw.sample(ends, 2)]:
        cut.write_bytes(data[:size])
        ran = generate("--input", many, "--output", cut, "--resume", *sampling)
        assert cut.read_bytes() == data, size
        assert ran.stderr.endswith("masked_attn: 15 of 150 lines have an error\n")


def test_resume_starts_a_file_that_is_not_there(generate: Generate, many: Path) -> None:
    out = many.with_name("out")
    assert generate("--input", many, "--output", out, "--resume").status == 1
    assert len(read(out)) == 150


@pytest.mark.parametrize(
    ("held", "named"),
    [
        (b"word\n", "line 1 of"),
        (b"a file of the user without line end", "line 1 of"),
        (b'{"prompt": "My dog is", "completion": "x"}\n{"prompt": "wrong"', "line 2 of"),
        (b'{"prompt": "My dog is", "score": 1}\n', "line 1 of"),
        (b'{"prompt": "My dog is", "completion": ["a"]}\n', "does not hold 1 completion"),
        (b'{"prompt": "My dog is", "completion": "a"}\n' * 2, "line 2 of"),
        (
            b'{"prompt": "My dog is", "completion": "a"}\n{"prompt": "We", "completion": "b"}\n{',
            "more lines than the input",
        ),
    ],
)
def test_an_output_of_something_else_is_refused_and_kept(
    generate: Generate, tmp_path: Path, held: bytes, named: str
) -> None:
    file = write(tmp_path / "in.jsonl", ["My dog is", "We"])
    (tmp_path / "out").write_bytes(held)
    ran = generate("--input", file, "--output", tmp_path / "out", "--resume")
    ran.assert_refused(named)
    assert (tmp_path / "out").read_bytes() == held


def test_an_output_that_exists_is_refused_unless_overwritten(
    generate: Generate, tmp_path: Path
) -> None:
    file = write(tmp_path / "in.jsonl", ["My dog is"])
    out = tmp_path / "out"
    out.write_text("precious\n" * 99)
    generate("--input", file, "--output", out).assert_refused("exists", "--resume", "--overwrite")
    assert out.read_text() == "precious\n" * 99
    assert generate("--input", file, "--output", out, "--overwrite").status == 0
    assert len(read(out)) == 1
    generate("--input", out, "--output", out, "--overwrite").assert_refused("the input and the out")


@pytest.mark.parametrize(
    ("output", "named"),
    [
        ("/dev/full", "cannot write /dev/full: No space left on device; 0 lines were written"),
        ("/no/such/folder/out", "cannot write /no/such/folder/out: No such file"),
        ("/", "cannot write /: Is a directory"),
    ],
)
def test_an_output_that_cannot_be_written_is_named(
    generate: Generate, tmp_path: Path, output: str, named: str
) -> None:
    file = write(tmp_path / "in.jsonl", ["My dog is"])
    generate("--input", file, "--output", output).assert_refused(named)


def test_a_full_disk_leaves_whole_lines_and_resume_goes_on(
    generate: Generate, many: Path, tmp_path: Path
) -> None:
    generate("--input", many, "--output", tmp_path / "whole")
    out = tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        ran = generate("--input", many, "--output", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    lines = read(out)
    assert 10 < len(lines) < 150
    assert ran.status == 2
    last = ran.stderr.splitlines()[-1]
    assert f"cannot write {out}: File too large; {out} holds {len(lines)} whole lines" in last
    generate("--input", many, "--output", out, "--resume")
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()


def test_stdin_to_stdout(model_folder: Path) -> None:
    ran = run_command(
        *("generate", "--input", "-", "--format", "jsonl", "--output", "-"),
        *("--model", model_folder, "--max-new-tokens", "3"),
        stdin='{"prompt": "grüße", "n": 1}\n{"prompt": "My dog is", "n": 2}'.encode(),
    )
    assert ran.status == 0
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["n"] for line in lines] == [1, 2]
    assert re.match(r"2 lines\n\d new tokens in ", ran.stderr)


def test_an_empty_input_is_refused_before_the_output_is_made(
    generate: Generate, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").touch()
    generate("--input", tmp_path / "in.jsonl", "--output", tmp_path / "out").assert_refused(
        "is empty"
    )
    assert not (tmp_path / "out").exists()


def test_seeds_of_batches_differ() -> None:
    seeds = {batch_seed(seed, line) for seed in range(30) for line in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_no_more_than_a_window_waits(
    generate: Generate, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []
    write_ready = FileRun._write_ready

    def watch(self: FileRun, window: list[Any], start: int) -> int:
        waiting.append(len(self._ready))
        return write_ready(self, window, start)

    monkeypatch.setattr(FileRun, "_write_ready", watch)
    generate("--input", many, "--output", tmp_path / "out")
    assert max(waiting) <= 64
