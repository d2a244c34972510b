"""SIGTERM and Ctrl-C inside a run that writes a file."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

from masked_attn.cli.errors import Terminated
from masked_attn.cli.files.stopping import stopping


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_carries_the_state(number: signal.Signals, kind: type[BaseException]) -> None:
    # A shell starts its background jobs deaf to Ctrl-C, and so the tests among them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(kind, match="7 lines"), stopping(lambda: "7 lines"):
            os.kill(os.getpid(), number)
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_a_handler_of_others_stays(handler: Any) -> None:
    signal.signal(signal.SIGTERM, handler)
    try:
        with stopping(str):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == handler
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_another_thread_installs_nothing() -> None:
    seen: list[Any] = []

    def run() -> None:
        with stopping(str):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
