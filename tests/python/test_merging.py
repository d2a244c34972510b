"""``merge_attention``: parts of the keys, put together, are attention over all of them."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import bounds, oracle
from support.accuracy import assert_accurate, assert_all_zero
from support.cases import DTYPES, make_inputs

from masked_attn import masked_attention, merge_attention

ROOT = Path(__file__).parents[2]
SPLITS = {
    "one part": [0, 70],
    "halves": [0, 35, 70],
    "an empty part": [0, 20, 20, 70],
    "single keys": [0, 1, 2, 69, 70],
}


def parts_of(inputs, cuts):
    """Attention over each range of keys; causality is said by the mask, for it counts all keys."""
    seen = torch.from_numpy(
        oracle.seen_keys((*inputs.query.shape[:3], cuts[-1]), inputs.masks).copy()
    )
    outs, logsumexps = [], []
    for begin, end in itertools.pairwise(cuts):
        out, logsumexp = masked_attention(
            inputs.query,
            inputs.key[:, :, begin:end],
            inputs.value[:, :, begin:end],
            attn_mask=seen[..., begin:end],
            return_logsumexp=True,
        )
        outs.append(out)
        logsumexps.append(logsumexp)
    return outs, logsumexps


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("padding", ["left", "holes", "empty_row"])
@pytest.mark.parametrize("split", SPLITS)
def test_parts_make_the_whole(split, padding, dtype):
    inputs = make_inputs(queries=33, keys=70, padding=padding, causal=True, dtype=dtype)
    outs, logsumexps = parts_of(inputs, SPLITS[split])
    merged, logsumexp = merge_attention(outs, logsumexps, return_logsumexp=True)
    assert merged.dtype == dtype
    truth, truth_logsumexp = oracle.attention(*inputs.tensors(), inputs.masks)
    bound, logsumexp_bound = bounds.attention(*inputs.tensors(), inputs.masks, None)
    sizes = [np.abs(oracle.to_numpy(out)) for out in outs]
    shares = [
        np.exp(oracle.to_numpy(part) - np.nan_to_num(truth_logsumexp, neginf=0))
        for part in logsumexps
    ]
    for size, share in zip(sizes, shares, strict=True):
        share = share[..., None]
        # The part was rounded to its dtype, and its share is as right as the log-sum-exps.
        bound = bound + share * bounds.storage(size, dtype)
        bound = bound + share * size * 2 * logsumexp_bound[..., None]
    assert_accurate(merged, truth, bound, name="merged")
    assert_accurate(logsumexp, truth_logsumexp, 2 * logsumexp_bound, name="merged logsumexp")


def test_merging_in_steps_is_merging_at_once():
    inputs = make_inputs(queries=9, keys=70, padding="left")
    outs, logsumexps = parts_of(inputs, [0, 10, 30, 70])
    first, first_logsumexp = merge_attention(outs[:2], logsumexps[:2], return_logsumexp=True)
    in_steps = merge_attention([first, outs[2]], [first_logsumexp, logsumexps[2]])
    torch.testing.assert_close(in_steps, merge_attention(outs, logsumexps))


def test_a_part_that_is_not_seen_has_no_influence():
    out, logsumexp = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3)
    garbage = torch.full_like(out, math.nan)
    nothing = torch.full_like(logsumexp, -math.inf)
    assert torch.equal(merge_attention([garbage, out], [nothing, logsumexp]), out)
    merged, total = merge_attention([garbage] * 2, [nothing] * 2, return_logsumexp=True)
    assert_all_zero(merged)
    assert torch.equal(total, nothing)


def test_a_nan_that_is_seen_stays():
    out, logsumexp = torch.randn(1, 1, 2, 4), torch.randn(1, 1, 2)
    broken = out.clone()
    broken[0, 0, 1] = math.nan
    merged = merge_attention([broken, out], [logsumexp, logsumexp])
    assert merged[0, 0, 0].isfinite().all()
    assert merged[0, 0, 1].isnan().all()


def test_a_nan_of_a_tiny_share_stays():
    """A key is seen however small its weight is: its NaN must show, as without parts."""
    query = torch.full((1, 1, 1, 1), 200.0)
    key, value = torch.tensor([[[[1.0], [-1.0]]]]), torch.tensor([[[[1.0], [math.nan]]]])
    parts = [
        masked_attention(query, key[:, :, i : i + 1], value[:, :, i : i + 1], return_logsumexp=True)
        for i in range(2)
    ]
    assert masked_attention(query, key, value).isnan().all()
    assert merge_attention(*zip(*parts, strict=True)).isnan().all()


def test_parts_may_come_as_one_tensor():
    outs, logsumexps = torch.randn(2, 1, 2, 3, 4), torch.randn(2, 1, 2, 3)
    assert torch.equal(
        merge_attention(outs, logsumexps), merge_attention(list(outs), list(logsumexps))
    )


def test_gradients_flow_and_stay_finite():
    generator = torch.Generator().manual_seed(5)
    outs = torch.randn(2, 1, 2, 3, 4, generator=generator, dtype=torch.float64)
    logsumexps = torch.randn(2, 1, 2, 3, generator=generator, dtype=torch.float64)
    logsumexps[0, :, :, 0] = -math.inf
    outs.requires_grad_()

    def merge(first, second):
        return merge_attention([first, second], list(logsumexps))

    assert torch.autograd.gradcheck(merge, tuple(outs.unbind()))
    logsumexps[:, :, :, 1] = -math.inf  # seen in no part
    learned = logsumexps.clone().requires_grad_()
    broken = outs.detach().clone()
    broken[0, :, :, 0] = math.nan
    merge_attention(list(broken.unbind()), list(learned.unbind())).sum().backward()
    assert learned.grad.isfinite().all()
    assert not learned.grad[:, :, :, 1].any()


@pytest.mark.parametrize(
    ("outs", "logsumexps", "message"),
    [
        ([], [], "one tensor for each part, got 0 and 0"),
        ([(1, 2, 3, 4)], [], "got 1 and 0"),
        ([(1, 2, 3, 4)] * 2, [(1, 2, 3), (1, 2, 4)], "part 1 has out"),
        ([(1, 2, 3, 4), (1, 2, 3, 5)], [(1, 2, 3)] * 2, r"expected \[1, 2, 3, 4\]"),
    ],
)
def test_what_does_not_fit_is_refused(outs, logsumexps, message):
    with pytest.raises(ValueError, match=message):
        merge_attention([torch.ones(s) for s in outs], [torch.ones(s) for s in logsumexps])


def test_the_example_of_a_shared_prompt():
    result = subprocess.run(
        [sys.executable, ROOT / "examples" / "shared_prompt.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(result.stdout.split(":")[1].split()[0]) < 1e-5
