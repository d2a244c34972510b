"""The program looks at its words before torch is imported: help and mistakes must not take seconds.

Both ways to start it, ``python -m masked_attn`` and ``masked-attn``, import the package first, and
that imports torch. So the package asks here, at the very beginning, whether it is the program.
"""

from __future__ import annotations

import os
import sys

__all__ = ["check_words_first", "is_program"]

SCRIPT = "masked-attn"  # of [project.scripts] in pyproject.toml


def check_words_first() -> None:
    """End the process here if it is the program and has nothing to do; else do nothing.

    Raises:
        SystemExit: help or the version was printed, or a word cannot be used.
    """
    if is_program():
        from masked_attn.cli import check_words

        status = check_words()
        if status is not None:
            sys.exit(status)


def is_program() -> bool:
    """Whether this process is ``python -m masked_attn`` or ``masked-attn``.

    While Python looks for the module of ``-m``, ``sys.argv[0]`` is ``"-m"``; the word before those
    of the program is then the module's name.
    """
    if sys.argv[:1] == ["-m"]:
        return sys.orig_argv[-len(sys.argv)] in ("masked_attn", "-mmasked_attn")
    return bool(sys.argv) and os.path.basename(sys.argv[0]) == SCRIPT
