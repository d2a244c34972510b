"""Every option with a bound, and the options that cannot go together: one line each."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from cli_process import Ran

from masked_attn.cli.arguments import parse
from masked_attn.cli.generate.arguments import generation_options
from masked_attn.cli.numbers import real_number, whole_number


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--max-new-tokens", "0"),
        ("--max-new-tokens", "-3"),
        ("--max-new-tokens", "ten"),
        ("--max-new-tokens", "1.5"),
        ("--batch-size", "0"),
        ("--threads", "0"),
        ("--threads", "1000000"),
        ("--repeats", "0"),
        ("--seed", "-1"),
        ("--num-beams", "0"),
        ("--num-return-sequences", "0"),
        ("--temperature", "0"),
        ("--temperature", "1e-300"),
        ("--temperature", "nan"),
        ("--temperature", "inf"),
        ("--top-k", "-1"),
        ("--top-p", "1.01"),
        ("--top-p", "-0.1"),
        ("--min-p", "2"),
        ("--typical-p", "0"),
        ("--repetition-penalty", "0"),
        ("--length-penalty", "much"),
        ("--no-repeat-ngram-size", "-2"),
        ("--dtype", "int8"),
    ],
)
def test_a_value_out_of_bounds_is_named(
    run_here: Callable[..., Ran], option: str, value: str
) -> None:
    run_here("generate", "a", option, value).assert_refused(option, repr(value))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "COMMAND"),
        (["sing"], "'sing'"),
        (["generate"], "no prompt"),
        (["generate", "a", "--input", "b"], "not both"),
        (["generate", "a", "--stock", "--compare"], "--compare"),
        (["generate", "a", "--compare", "--do-sample"], "--compare"),
        (["generate", "a", "--temperature", "0.5"], "--temperature does nothing"),
        (["generate", "a", "--top-k", "5"], "--do-sample"),
        (["generate", "a", "--length-penalty", "2"], "--num-beams"),
        (["generate", "a", "--early-stopping"], "--num-beams"),
        (["generate", "a", "--num-return-sequences", "2"], "--num-return-sequences 2"),
        (
            ["generate", "a", "--num-beams", "2", "--num-return-sequences", "3"],
            "--num-return-sequences 3",
        ),
        (["generate", "a", "--no-such-option"], "--no-such-option"),
        (["generate", "a", "--temp", "1"], "--temp"),
        (["generate", "a", "--two\nlines"], "--two lines"),
        (["info", "a"], "unrecognized arguments: a"),
        (["generate", "a", "--output", "b"], "--output needs --input"),
        (["generate", "a", "--prompt-field", "b"], "--prompt-field needs --input"),
        (["generate", "a", "--format", "text"], "--format needs --input"),
        (["generate", "--input", "a", "--resume"], "--resume needs --output"),
        (["generate", "--input", "a", "--overwrite"], "--overwrite needs --output"),
        (["generate", "--input", "a", "--output-field", "b"], "--output-field needs --output"),
        (["generate", "--input", "a", "--prompt-field", "b"], "--prompt-field does nothing"),
        (["generate", "--input", "a.jsonl"], "give --output FILE"),
        (["generate", "--input", "a", "--format", "jsonl"], "give --output FILE"),
        (["generate", "--input", "a", "--output", "b", "--compare"], "leave out --output"),
        (["generate", "--input", "a", "--output", "-", "--resume"], "that is a file"),
        (["generate", "--input", "a", "--output", "b", "--resume", "--overwrite"], "--overwrite"),
        (["score"], "--input"),
        (["score", "a"], "--input"),
        (["score", "--input", "a", "--resume"], "--resume needs --output"),
        (["score", "--input", "a", "--do-sample"], "--do-sample"),
        (["score", "--input", "a", "--output", "b", "--output-field", "error"], "'error'"),
        (["score", "--input", "a", "--output", "b", "--prompt-field", ""], "--prompt-field"),
        (
            [
                "score",
                "--input",
                "a",
                "--output",
                "b",
                "--prompt-field",
                "c",
                "--output-field",
                "c",
            ],
            "must differ",
        ),
    ],
)
def test_words_that_cannot_stand_together_are_named(
    run_here: Callable[..., Ran], words: list[str], named: str
) -> None:
    run_here(*words).assert_refused(named)


def test_bounds_themselves_are_allowed() -> None:
    assert whole_number(1, 3)("1") == 1
    assert whole_number(1, 3)("3") == 3
    assert real_number(0, 1)("0") == 0.0
    assert real_number(0, 1)("1") == 1.0
    assert real_number(0, open_low=True)("1e-3") == 1e-3
    assert real_number(-math.inf)("-2.5") == -2.5


def test_options_reach_generate_under_the_names_of_transformers() -> None:
    words = (
        "generate a --max-new-tokens 7 --do-sample --temperature 0.5 --top-k 0 --top-p 0.9 "
        "--num-beams 2 --num-return-sequences 2 --repetition-penalty 1.5 --early-stopping"
    )
    args = parse(words.split())
    assert generation_options(args) == {
        "max_new_tokens": 7,
        "do_sample": True,
        "temperature": 0.5,
        "top_k": 0,
        "top_p": 0.9,
        "num_beams": 2,
        "num_return_sequences": 2,
        "repetition_penalty": 1.5,
        "early_stopping": True,
    }


def test_decoding_is_greedy_unless_told_otherwise() -> None:
    args = parse(["generate", "a"])
    assert generation_options(args) == {
        "max_new_tokens": 30,
        "do_sample": False,
        "num_beams": 1,
        "num_return_sequences": 1,
    }


def test_a_prompt_may_start_with_a_dash(run_here: Callable[..., Ran]) -> None:
    args = parse(["generate", "--", "-x"])
    assert args.prompts == ["-x"]
