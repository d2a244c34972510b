"""Opens and loads what a run over a file needs, in the order in which a mistake shows soonest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, BinaryIO

import torch

from masked_attn.cli.files.records import (
    LineFormat,
    count_lines,
    is_jsonl,
    open_input,
    read_lines,
    read_records,
    shown_name,
)
from masked_attn.cli.files.resume import Earlier, JsonLines
from masked_attn.cli.files.run import FileRun, Sink, Work
from masked_attn.cli.files.stopping import stopping
from masked_attn.cli.files.writer import LineWriter, open_output
from masked_attn.cli.model.attention import maybe_patched, require_patching, what_ran
from masked_attn.cli.model.engine import Engine
from masked_attn.cli.model.loading import find_model, load_model, load_text_side
from masked_attn.cli.progress import Progress, can_be_seen, progress

__all__ = ["run_file"]


def run_file(
    args: argparse.Namespace,
    options: dict[str, Any],
    output_field: str,
    make_work: Callable[[Engine], Work],
    make_table: Callable[[Progress], Sink] | None = None,
    check_config: Callable[[Any], None] = lambda config: None,
) -> int:
    """Work through ``args.input``; print the totals.

    Args:
        args: the command line.
        options: keyword arguments of ``model.generate``.
        output_field: default of ``--output-field``.
        make_work: what is done with each batch.
        make_table: where outcomes go without ``--output``.
        check_config: refuses, before the weights load, what the model cannot do.

    Returns:
        The exit status: 1 when lines could not be used, else 0.

    Raises:
        BadInput: something cannot be used or written.
    """
    field = args.output_field or output_field
    line_format = LineFormat(
        is_jsonl(args.input, args.format), args.prompt_field or "prompt", field
    )
    origin = shown_name(args.input)
    with open_input(args.input) as stream:
        lines = _count(args, stream)
        records = read_records(read_lines(stream, origin), line_format)
        source = find_model(args.model)
        tokenizer, config = load_text_side(source)
        check_config(config)
        with _writer(args, stream) as writer, _earlier(args, field) as earlier:
            if not args.stock:
                require_patching()
            engine = Engine(load_model(source, args.dtype), tokenizer, options)

            def sink(shown: Progress) -> Sink:
                if writer is not None:
                    return JsonLines(writer, earlier, field)
                assert make_table is not None, "a command without a table needs --output"
                return make_table(shown)

            with (
                _stopping(writer),
                maybe_patched(engine.model, not args.stock),
                _bar(args, lines) as shown,
            ):
                run = FileRun(
                    engine, make_work(engine), sink(shown), shown, origin, args.batch_size
                )
                run.run(records)
                ran = what_ran(engine.model, not args.stock)
    return _report(args, run, ran)


def _report(args: argparse.Namespace, run: FileRun, ran: str) -> int:
    out = sys.stderr if args.output == "-" else sys.stdout
    for line in run.work.totals(run.lines):
        print(line, file=out)
    if run.batches:
        print(f"attention: {ran}; threads: {torch.get_num_threads()}", file=out)
    if run.failed:
        print(f"masked_attn: {run.failed} of {run.lines} lines have an error", file=sys.stderr)
    return int(run.failed > 0)


@contextmanager
def _writer(args: argparse.Namespace, stream: BinaryIO) -> Iterator[LineWriter | None]:
    if args.output is None:
        yield None
        return
    with open_output(
        args.output,
        may_hold=args.overwrite or args.resume,
        file_only=args.resume,
        input_descriptor=stream.fileno(),
    ) as writer:
        yield writer


@contextmanager
def _earlier(args: argparse.Namespace, field: str) -> Iterator[Earlier]:
    if not args.resume:
        yield Earlier(None, "", field)
        return
    with open_input(args.output) as stream:
        yield Earlier(stream, args.output, field)


def _has_bar(args: argparse.Namespace) -> bool:
    """On stdout, lines and a bar would mix."""
    return args.output != "-" and can_be_seen()


def _count(args: argparse.Namespace, stream: BinaryIO) -> int | None:
    """Lines of the input, for a bar that somebody sees; ``None`` when nobody knows."""
    try:
        return count_lines(stream) if _has_bar(args) else None
    except OSError:  # reading the lines will say so
        return None


def _bar(args: argparse.Namespace, lines: int | None) -> AbstractContextManager[Progress]:
    batches = 2 if lines is None else -(-lines // args.batch_size)
    return progress(lines, batches if _has_bar(args) else 0)


def _stopping(writer: LineWriter | None) -> AbstractContextManager[None]:
    return nullcontext() if writer is None else stopping(writer.state)
