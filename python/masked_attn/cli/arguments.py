"""Reads the words of the command line; each command says its own in its folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from masked_attn.cli.bench.arguments import add_bench
from masked_attn.cli.errors import BadInput
from masked_attn.cli.files.arguments import check_file_options
from masked_attn.cli.generate.arguments import add_generate, check_together
from masked_attn.cli.info.arguments import add_info
from masked_attn.cli.score.arguments import add_score

__all__ = ["parse"]


class _Parser(argparse.ArgumentParser):
    """Reports a mistake through ``BadInput``: one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (see {self.prog} --help)")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The words of ``python -m masked_attn``, read and checked without torch.

    Raises:
        BadInput: a word cannot be used, or not beside the others.
        SystemExit: help or the version was printed.
    """
    args = _build_parser().parse_args(arguments)
    if args.command == "generate":
        check_together(args)
    elif args.command == "score":
        check_file_options(args)
    return args


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m masked_attn",
        description="Batched generation with attention that knows its padding mask.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_generate(commands)
    add_score(commands)
    add_bench(commands)
    add_info(commands)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when asked, so that other commands do not pay for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from masked_attn.cli.version import package_version

        print(f"masked_attn {package_version()}")
        parser.exit()
