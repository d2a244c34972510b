"""The command line. ``main`` turns every expected failure into one line and an exit status.

Exit status: 0 done; 1 a check failed (``--compare`` tokens, those of ``info``), a system of ours
failed in ``bench``, or lines of a file could not be used; 2 bad input, or output that cannot be
written; 130 interrupted; 141 the reader of our output went away; 143 terminated.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from masked_attn.cli.arguments import parse
from masked_attn.cli.errors import BadInput, Terminated, first_line

__all__ = ["check_words", "main"]

STATUS_BAD_INPUT = 2
STATUS_INTERRUPTED = 128 + 2  # SIGINT
STATUS_BROKEN_PIPE = 128 + 13  # SIGPIPE
STATUS_TERMINATED = 128 + 15  # SIGTERM


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after ``python -m masked_attn``; ``None`` means those of the process.

    Returns:
        The exit status of the process.

    Example:
        >>> main(["info", "--no-such-flag"])  # one line on stderr
        2
    """
    return _guarded(lambda: _run(arguments))


def check_words() -> int | None:
    """Read the words of the process before anything slow is imported.

    Returns:
        The exit status when they cannot be used, else ``None``.

    Raises:
        SystemExit: help or the version was printed.
    """

    def read() -> int:
        parse(None)
        return 0

    return _guarded(read) or None


def _guarded(run: Callable[[], int]) -> int:
    """What ``run`` returns, or the status of a failure that is expected, told in one line."""
    _never_fail_on_characters()
    try:
        status = run()
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BadInput as error:
        return _refuse(str(error))
    except KeyboardInterrupt as stop:
        return _stop("interrupted", stop, STATUS_INTERRUPTED)
    except Terminated as stop:
        return _stop("terminated", stop, STATUS_TERMINATED)
    except BrokenPipeError:
        _forget_stdout()
        return STATUS_BROKEN_PIPE
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        return _refuse(f"out of memory: {first_line(error)}")


def _run(arguments: Sequence[str] | None) -> int:
    options = parse(arguments)
    _check_instruction_set()
    # Imported here: `info` must not wait for what only `generate` needs.
    if options.command == "info":
        from masked_attn.cli.info import command as info

        return info.run(options)
    if options.command == "score":
        from masked_attn.cli.score import command as score

        return score.run(options)
    if options.command == "bench":
        from masked_attn.cli.bench import command as bench

        return bench.run(options)
    from masked_attn.cli.generate import command as generate

    return generate.run(options)


def _check_instruction_set() -> None:
    from masked_attn import _library  # it imports torch

    try:
        _library.load().selected_instruction_set()
    except RuntimeError as error:  # MASKED_ATTN_ISA names one that this CPU lacks
        raise BadInput(first_line(error).removeprefix("masked_attn: ")) from error


def _stop(what: str, stop: BaseException, status: int) -> int:
    """One line; in a run that writes a file it says how far the file is."""
    print("masked_attn:", what + (f"; {stop}" if str(stop) else ""), file=sys.stderr)
    return status


def _refuse(message: str) -> int:
    """One line, even when a file name or a word of the user holds a line end."""
    print("masked_attn: error:", " ".join(message.splitlines()), file=sys.stderr)
    return STATUS_BAD_INPUT


def _never_fail_on_characters() -> None:
    """A terminal that cannot show a character gets an escape, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """Point stdout at nothing, so that the flush at interpreter exit cannot fail again."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
