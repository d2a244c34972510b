"""The words of ``generate`` on the command line and which of them may stand together."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from masked_attn.cli.errors import BadInput
from masked_attn.cli.files.arguments import add_file_options, check_file_options
from masked_attn.cli.files.records import is_jsonl
from masked_attn.cli.model.arguments import add_model, add_stock
from masked_attn.cli.numbers import real_number, whole_number

__all__ = ["add_generate", "check_beams", "check_together", "generation_options"]


@dataclass(frozen=True)
class _Knob:
    """One option of ``generate`` of transformers, under its own name."""

    name: str
    parse: Callable[[str], Any]
    help: str
    needs: str = ""  # "sampling" or "beams": without it the option would do nothing


_KNOBS = (
    _Knob("temperature", real_number(1e-3), "divide the logits by this", "sampling"),
    _Knob("top_k", whole_number(0), "keep the K likeliest tokens; 0 keeps all", "sampling"),
    _Knob("top_p", real_number(0, 1), "keep the likeliest tokens up to this mass", "sampling"),
    _Knob("min_p", real_number(0, 1), "drop tokens below this part of the best", "sampling"),
    _Knob("typical_p", real_number(0, 1, open_low=True), "locally typical mass", "sampling"),
    _Knob("length_penalty", real_number(-math.inf), "exponent of the length of a beam", "beams"),
    _Knob("repetition_penalty", real_number(0, open_low=True), "above 1 repeats less"),
    _Knob("no_repeat_ngram_size", whole_number(0), "no N tokens twice; 0 is off"),
)


def add_generate(commands: Any) -> None:
    """Add the parser of ``generate``."""
    parser = commands.add_parser(
        "generate",
        help="complete prompts with a model",
        description="Complete prompts with a decoder (GPT-2, Llama, Qwen, ...) on masked_attn.",
        epilog="Decoding is greedy unless --do-sample or --num-beams is given.",
        allow_abbrev=False,
    )
    parser.add_argument("prompts", metavar="PROMPT", nargs="*", help="text to be continued")
    parser.add_argument("--input", metavar="FILE", help="prompts, one a line; - is stdin")
    add_model(parser)
    how = parser.add_mutually_exclusive_group()
    add_stock(how)
    how.add_argument(
        "--compare",
        action="store_true",
        help="time the stock batch, the patched batch and one prompt at a time, compare tokens",
    )
    parser.add_argument(
        "--repeats",
        type=whole_number(1),
        default=3,
        metavar="N",
        help="timed runs of --compare, the best of which counts (default 3)",
    )
    add_file_options(parser, adds="completion, or completions if there are several")
    _add_decoding(parser.add_argument_group("decoding, under the names of transformers"))


def generation_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of ``model.generate`` that the user chose (greedy by default)."""
    chosen = {
        "max_new_tokens": args.max_new_tokens,
        "do_sample": args.do_sample,
        "num_beams": args.num_beams,
        "num_return_sequences": args.num_return_sequences,
    }
    if args.early_stopping:
        chosen["early_stopping"] = True
    for knob in _KNOBS:
        value = getattr(args, knob.name)
        if value is not None:
            chosen[knob.name] = value
    return chosen


def check_together(args: argparse.Namespace) -> None:
    """Refuse options of ``generate`` that would be ignored, or that cannot go together.

    Raises:
        BadInput: naming the options.
    """
    if args.prompts and args.input is not None:
        raise BadInput("give prompts or --input, not both")
    if not args.prompts and args.input is None:
        raise BadInput("no prompt: give one or more prompts, or --input FILE")
    check_file_options(args)
    if args.compare and args.output is not None:
        raise BadInput("--compare prints its results: leave out --output")
    if args.input is not None and args.output is None and is_jsonl(args.input, args.format):
        raise BadInput("completions of JSONL are JSONL: give --output FILE (- is stdout)")
    ready = {"sampling": args.do_sample, "beams": args.num_beams > 1, "": True}
    flag_of = {"sampling": "--do-sample", "beams": "--num-beams of 2 or more"}
    for knob in _KNOBS:
        if getattr(args, knob.name) is not None and not ready[knob.needs]:
            flag = _flag(knob.name)
            raise BadInput(f"{flag} does nothing without {flag_of[knob.needs]}")
    if args.early_stopping and not ready["beams"]:
        raise BadInput(f"--early-stopping does nothing without {flag_of['beams']}")
    returned = args.num_return_sequences
    if args.num_beams > 1 and returned > args.num_beams:
        raise BadInput(f"--num-return-sequences {returned} is more than --num-beams")
    if args.num_beams == 1 and returned > 1 and not args.do_sample:
        raise BadInput(f"--num-return-sequences {returned} needs --do-sample or --num-beams")
    if args.compare and args.do_sample:
        raise BadInput("--compare needs the same tokens every time: leave out --do-sample")


def check_beams(args: argparse.Namespace, config: Any) -> None:
    """Refuse more beams than a model has tokens for: each looks at two candidates.

    Raises:
        BadInput: naming both numbers.
    """
    if 2 * args.num_beams > config.vocab_size:
        raise BadInput(f"--num-beams {args.num_beams} is too many for {config.vocab_size} tokens")


def _add_decoding(group: Any) -> None:
    group.add_argument(
        "--max-new-tokens", type=whole_number(1), default=30, metavar="N", help="default 30"
    )
    group.add_argument("--do-sample", action="store_true", help="draw tokens instead of the best")
    group.add_argument(
        "--seed", type=whole_number(0, 2**63 - 1), metavar="N", help="makes draws repeatable"
    )
    group.add_argument(
        "--num-beams", type=whole_number(1), default=1, metavar="N", help="2 or more: beam search"
    )
    group.add_argument(
        "--num-return-sequences",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="completions of each prompt (needs sampling or beams)",
    )
    group.add_argument("--early-stopping", action="store_true", help="stop a beam search early")
    for knob in _KNOBS:
        needs = f" (needs {knob.needs})" if knob.needs else ""
        group.add_argument(_flag(knob.name), type=knob.parse, metavar="X", help=knob.help + needs)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
