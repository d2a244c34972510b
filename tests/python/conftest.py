"""Makes ``support`` importable and puts every test at the same start: seed, threads, device."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from support import accuracy, devices, seeds

# torch.compile traces itself here; in the report of a failed test that is thousands of lines.
logging.getLogger("torch.__trace").propagate = False

NOT_ON_CUDA = pytest.StashKey[str]()


@pytest.fixture(autouse=True)
def same_start() -> Iterator[None]:
    threads = torch.get_num_threads()
    seeds.start(20)
    yield
    torch.set_num_threads(threads)


# Of the whole session, because hypothesis draws many examples for one call of a test.
@pytest.fixture(params=devices.DEVICES, scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where nothing runs on CUDA, one of its tests stays: to say so, once, instead of each."""
    reason = devices.why_no_cuda()
    on_cuda = [item for item in items if item.get_closest_marker("cuda")]
    if reason is None or not on_cuda:
        return
    message = f"{len(on_cuda)} tests on CUDA were left out: {reason}"
    on_cuda[0].stash[NOT_ON_CUDA] = message
    config.hook.pytest_deselected(items=on_cuda[1:])
    left_out = set(on_cuda[1:])
    items[:] = [item for item in items if item not in left_out]


def pytest_runtest_setup(item: pytest.Item) -> None:
    message = item.stash.get(NOT_ON_CUDA, None)
    if message is None:
        return
    if devices.cuda_is_required():
        pytest.fail(f"MASKED_ATTN_REQUIRE_CUDA is set, but {message}", pytrace=False)
    pytest.skip(message)


def pytest_sessionfinish(session: pytest.Session) -> None:
    worker = getattr(session.config, "workeroutput", None)
    if worker is not None:  # a process of pytest-xdist
        worker["tightness"] = accuracy.TIGHTNESS


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for kind, share in getattr(node, "workeroutput", {}).get("tightness", {}).items():
        accuracy.note_tightness(kind, share)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How tight the bounds of accuracy were: an error at its bound has 1.00."""
    for kind, share in sorted(accuracy.TIGHTNESS.items()):
        terminalreporter.write_line(f"largest error / bound, {kind}: {share:.2f}")
