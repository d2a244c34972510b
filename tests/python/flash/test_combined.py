"""All arguments together, drawn by hypothesis."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import flash_oracle, seeds
from support.flash_cache import Step, assert_right
from support.flash_oracle import Call, assert_near, tensors

from masked_attn.flash import flash_attn_func, flash_attn_varlen_func

HEADS = st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)])
REACH = st.integers(-1, 9)
OPTIONS = settings(max_examples=150, deadline=None)


@st.composite
def calls(draw, batch, heads):
    slopes = draw(st.sampled_from([None, (heads,), (batch, heads)]))
    return Call(
        causal=draw(st.booleans()),
        window_size=(draw(REACH), draw(REACH)),
        softcap=draw(st.sampled_from([0.0, 0.5, 5.0])),
        softmax_scale=draw(st.sampled_from([None, 0.0, 0.8])),
        alibi_slopes=None if slopes is None else torch.rand(slopes),
    )


@OPTIONS
@given(st.data())
def test_dense(data):
    seeds.start(data.draw(st.integers(0, 99)))
    batch, (heads, heads_k) = data.draw(st.integers(1, 2)), data.draw(HEADS)
    queries, keys = data.draw(st.integers(1, 7)), data.draw(st.integers(0, 7))
    call = data.draw(calls(batch, heads))
    q, k, v = tensors((batch, queries, heads, 4), *[(batch, keys, heads_k, 4)] * 2)
    truth, truth_lse = flash_oracle.batch(q, k, v, call)
    out, lse, _ = flash_attn_func(q, k, v, **call.kwargs(), return_attn_probs=True)
    assert_near(out, truth)
    assert_near(lse, truth_lse)


@OPTIONS
@given(st.data())
def test_varlen(data):
    seeds.start(data.draw(st.integers(0, 99)))
    heads, heads_k = data.draw(HEADS)
    lengths = data.draw(st.lists(st.tuples(*[st.integers(0, 6)] * 2), min_size=1, max_size=4))
    queries, keys = [q for q, _ in lengths], [k for _, k in lengths]
    call = data.draw(calls(len(lengths), heads))
    q, k, v = tensors((sum(queries), heads, 4), *[(sum(keys), heads_k, 4)] * 2)
    truth, truth_lse = flash_oracle.packed(q, k, v, queries, keys, call)
    cu_q, cu_k = (torch.tensor([0, *each]).cumsum(0).to(torch.int32) for each in (queries, keys))
    out, lse, _ = flash_attn_varlen_func(
        q, k, v, cu_q, cu_k, max(queries), max(keys), **call.kwargs(), return_attn_probs=True
    )
    assert_near(out, truth)
    assert_near(lse, truth_lse)


@st.composite
def steps(draw):
    seeds.start(draw(st.integers(0, 99)))
    batch, slots = draw(st.integers(1, 3)), 12
    heads, heads_k = draw(HEADS)
    queries, new = draw(st.integers(1, 4)), draw(st.integers(0, 4))
    lengths = st.integers(0, slots - new)
    filled = draw(lengths | st.lists(lengths, min_size=batch, max_size=batch))
    each = [filled] * batch if isinstance(filled, int) else filled
    pads = [draw(st.integers(0, length)) for length in each]
    where = draw(st.sampled_from(["rows", "larger", "blocks"]))
    size = draw(st.sampled_from([1, 4, 5]))
    blocks_of_a_row = -(-slots // size)
    shape = (5, slots) if where != "blocks" else (batch * blocks_of_a_row, size)
    q, k_cache, v_cache, k, v = tensors(
        (batch, queries, heads, 8), *[(*shape, heads_k, 8)] * 2, *[(batch, new, heads_k, 8)] * 2
    )
    order = torch.randperm(shape[0])
    turns = new > 0 and draw(st.booleans())
    angles = torch.rand(slots + 4, draw(st.sampled_from([2, 4])), dtype=torch.float64)
    return Step(
        q,
        k_cache,
        v_cache,
        k if new else None,
        v if new else None,
        filled,
        rows=order[:batch].tolist() if where == "larger" else None,
        leftpad=pads if draw(st.booleans()) else None,
        table=order.reshape(batch, -1).tolist() if where == "blocks" else None,
        cos=angles.cos() if turns else None,
        sin=angles.sin() if turns else None,
        interleaved=draw(st.booleans()),
        call=draw(calls(batch, heads)),
    )


@OPTIONS
@given(steps())
def test_cache(step):
    assert_right(step)
