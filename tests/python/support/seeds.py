"""Where the random numbers of the operator tests start. Other numbers, same tests:

    MASKED_ATTN_TEST_SEED=3 python -m pytest tests/python/ops

0 is the suite as it always runs. Another number also draws other rows of the tables of cases.
"""

from __future__ import annotations

import os

import torch

# Far more than the tests count seeds to, so that no two runs share one.
_APART = 1_000_003
_RUN = int(os.environ.get("MASKED_ATTN_TEST_SEED", "0"))


def shifted(seed: int) -> int:
    """The seed that stands for ``seed`` in this run."""
    return seed + _APART * _RUN


def start(seed: int) -> None:
    """Puts torch's generator at ``seed``, shifted."""
    torch.manual_seed(shifted(seed))
