"""``generate``: prompts in, completions out, in the order of the prompts."""

from __future__ import annotations

import argparse

import torch

from masked_attn.cli.generate import compare, file, prompts
from masked_attn.cli.generate.arguments import check_beams, generation_options
from masked_attn.cli.generate.job import Job
from masked_attn.cli.model.attention import maybe_patched, require_patching, what_ran
from masked_attn.cli.model.loading import find_model, load_model, load_text_side
from masked_attn.cli.progress import progress

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Check the prompts, load the model, complete the prompts.

    Returns:
        The exit status: 1 when ``--compare`` found tokens that disagree or lines of a file could
        not be used, else 0.

    Raises:
        BadInput: something cannot be used.
    """
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    if args.output is not None:
        return file.run(args)
    job = _prepare(args)
    if args.compare:
        return compare.run(job, repeats=args.repeats)
    if args.seed is not None:
        torch.manual_seed(args.seed)
    _complete(job, patched=not args.stock)
    return 0


def _prepare(args: argparse.Namespace) -> Job:
    """Prompts are read and checked before the weights load: a mistake shows at once."""
    if args.input is None:
        given = prompts.from_arguments(args.prompts)
    else:
        given = prompts.from_file(args.input)
    source = find_model(args.model)
    tokenizer, config = load_text_side(source)
    rows = prompts.encode(given, lambda texts: list(tokenizer(texts)["input_ids"]))
    prompts.check_fit(
        given,
        rows,
        max_new_tokens=args.max_new_tokens,
        positions=config.max_position_embeddings,
        vocabulary=config.vocab_size,
    )
    check_beams(args, config)
    if not args.stock:
        require_patching()
    model = load_model(source, args.dtype)
    return Job(model, tokenizer, generation_options(args), given, rows, args.batch_size)


def _complete(job: Job, *, patched: bool) -> None:
    """Print each batch when it is done, then the speed and which attention ran."""
    count, seconds, first_row = 0, 0.0, 0
    batches = job.batches
    with maybe_patched(job.model, patched), progress(len(job.rows), len(batches)) as shown:
        for batch in batches:
            decoded = job.decode(batch)
            shown.print(job.show(decoded.tokens, first_row))
            shown.done(len(batch))
            count, seconds = count + decoded.count, seconds + decoded.seconds
            first_row += len(batch)
        ran = what_ran(job.model, patched)
    print(f"\n{count} new tokens in {seconds:.2f} s: {count / seconds:.0f} tokens/s")
    print(f"attention: {ran}; threads: {torch.get_num_threads()}")
