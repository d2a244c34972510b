"""Makes ``support`` importable and puts every test at the same start: seed, threads, device."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
# torch.compile traces itself here; in the report of a failed test that is thousands of lines.
logging.getLogger("torch.__trace").propagate = False


@pytest.fixture(autouse=True)
def same_start() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.manual_seed(20)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["cpu"])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)
