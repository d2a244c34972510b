"""Ends a run that writes a file: Ctrl-C and SIGTERM say how far the file is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from masked_attn.cli.errors import Terminated

__all__ = ["stopping"]


@contextmanager
def stopping(state: Callable[[], str]) -> Iterator[None]:
    """Within the block SIGTERM raises ``Terminated``; that and Ctrl-C carry ``state()``."""
    # Signals belong to the main thread; who ignores or handles SIGTERM already is left alone.
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )
    if ours:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except (KeyboardInterrupt, Terminated) as stop:
        stop.args = (state(),)
        raise
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(*_: Any) -> None:
    raise Terminated
