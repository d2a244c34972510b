"""The words of ``score`` on the command line."""

from __future__ import annotations

from typing import Any

from masked_attn.cli.files.arguments import add_file_options
from masked_attn.cli.model.arguments import add_model, add_stock

__all__ = ["add_score"]


def add_score(commands: Any) -> None:
    """Add the parser of ``score``."""
    parser = commands.add_parser(
        "score",
        help="log-probabilities and perplexity of the lines of a file",
        description="How likely a model finds each line of a file, and the file as a whole.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--input", metavar="FILE", required=True, help="texts, one a line; - is stdin"
    )
    add_model(parser)
    add_stock(parser)
    add_file_options(parser, adds="score")
