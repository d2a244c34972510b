"""The options of commands that work through a file of lines, and which may stand together."""

from __future__ import annotations

import argparse
from typing import Any

from masked_attn.cli.errors import BadInput
from masked_attn.cli.files.records import ERROR_FIELD, is_jsonl

__all__ = ["add_file_options", "check_file_options"]

FORMATS = ("auto", "text", "jsonl")


def add_file_options(parser: Any, *, adds: str) -> None:
    """Add the options to a parser; ``adds`` is the default of ``--output-field``, for the help."""
    group = parser.add_argument_group("files of many lines")
    group.add_argument(
        "--output", metavar="FILE", help="write JSONL, one line for each of --input; - is stdout"
    )
    group.add_argument(
        "--format",
        choices=FORMATS,
        default="auto",
        help="of --input; auto (default): JSONL if it ends in .jsonl or .ndjson, else text",
    )
    group.add_argument(
        "--prompt-field",
        type=_field_name,
        metavar="NAME",
        help="field of a JSONL line that holds the text (default prompt)",
    )
    group.add_argument(
        "--output-field",
        type=_field_name,
        metavar="NAME",
        help=f"field that the output adds (default {adds})",
    )
    how = group.add_mutually_exclusive_group()
    how.add_argument(
        "--resume", action="store_true", help="continue an --output that was interrupted"
    )
    how.add_argument(
        "--overwrite", action="store_true", help="replace an --output that holds something"
    )


def check_file_options(args: argparse.Namespace) -> None:
    """Refuse options that would be ignored, or that cannot go together.

    Raises:
        BadInput: naming the options.
    """
    if args.input is None:
        for option in ("output", "prompt_field"):
            if getattr(args, option) is not None:
                raise BadInput(f"{_flag(option)} needs --input FILE")
        if args.format != "auto":
            raise BadInput("--format needs --input FILE")
    if args.output is None:
        for option in ("resume", "overwrite", "output_field"):
            if getattr(args, option):
                raise BadInput(f"{_flag(option)} needs --output FILE")
    if args.output == "-" and (args.resume or args.overwrite):
        raise BadInput("--resume and --overwrite need an --output that is a file")
    if args.prompt_field is not None and args.prompt_field == args.output_field:
        raise BadInput("--prompt-field and --output-field must differ")
    if args.prompt_field is not None and not (args.output or is_jsonl(args.input, args.format)):
        raise BadInput("--prompt-field does nothing with text")


def _field_name(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("is not valid UTF-8") from None
    if not text or text == ERROR_FIELD:
        raise argparse.ArgumentTypeError(f"must be a name other than {ERROR_FIELD!r}, got {text!r}")
    return text


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
