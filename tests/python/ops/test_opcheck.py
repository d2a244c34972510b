"""torch's own checks of every operator: schema, fake tensors, tracing, modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.cached import make_step
from support.cases import DTYPES, Inputs, make_inputs
from support.packed import make_packed
from support.scores import KINDS, score_options
from torch._subclasses.fake_tensor import FakeTensorMode

import masked_attn

ops = torch.ops.masked_attn


def attention_inputs(**options: Any) -> Inputs:
    return make_inputs(batch=2, heads=(4, 2), queries=5, keys=9, dims=(8, 12), **options)


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "key mask, causal": {"padding": "left", "causal": True},
    "bias, window": {"attn": "float32", "window": 3},
    "bool mask": {"attn": "bool", "attn_shape": "QK", "padding": "holes"},
    "bfloat16": {"dtype": torch.bfloat16, "padding": "right"},
    "mixed": {"kv_dtype": torch.float16},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_41_opcheck_attention(variant: str, device: torch.device) -> None:
    inputs = attention_inputs(**VARIANTS[variant], device=device)
    for op in (ops.masked_attention.default, ops._masked_attention_forward.default):
        torch.library.opcheck(op, inputs.tensors(), {**inputs.masks.kwargs(), "scale": 0.5})


@pytest.mark.parametrize("variant", VARIANTS)
def test_41_opcheck_softmax(variant: str, device: torch.device) -> None:
    inputs = attention_inputs(**VARIANTS[variant], device=device)
    scores = torch.randn(2, 4, 5, 9).to(device, inputs.query.dtype)
    torch.library.opcheck(
        ops.masked_softmax.default, (scores,), {**inputs.masks.kwargs(), "scale": 2.0}
    )


@pytest.mark.parametrize("query_length", [None, 1, 7])
def test_41_opcheck_expand_mask(query_length: int | None, device: torch.device) -> None:
    for mask in (torch.tensor([[0, 1, 1]]), torch.rand(2, 9) < 0.5):
        mask = mask.to(device)
        kwargs = {
            "dtype": torch.float16,
            "query_length": query_length,
            "causal": True,
            "fill": -1e4,
        }
        torch.library.opcheck(ops.expand_mask.default, (mask,), kwargs)
    torch.library.opcheck(ops.expand_mask.default, (mask,), {"dtype": torch.float32, "window": 2})


@pytest.mark.parametrize("lengths", [(5, 0, 9), ((5, 9), (3, 0), (1, 4))], ids=str)
def test_41_opcheck_packed_attention(lengths: Any, device: torch.device) -> None:
    for options in ({"offset_dtype": torch.int32}, {"dtype": torch.bfloat16, "window": 3}):
        packed = make_packed(lengths, heads=(4, 2), causal=True, **options, device=device)
        for op in (ops.packed_attention.default, ops._packed_attention_forward.default):
            torch.library.opcheck(op, packed.tensors, packed.kwargs())


@pytest.mark.parametrize("cache_dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("queries", [1, 9])
def test_41_opcheck_cached_attention(
    queries: int, cache_dtype: torch.dtype, device: torch.device
) -> None:
    options = {"queries": queries, "cache_dtype": cache_dtype, "garbage": 0.0}
    step = make_step(position=6, capacity=20, **options, device=device)
    mask = torch.ones(2, 20, dtype=torch.bool, device=device)
    torch.library.opcheck(
        ops.cached_attention.default,
        step.tensors(),
        {"position": 6, "key_mask": mask[:, : 6 + queries], "window": 4},
    )
    torch.library.opcheck(
        ops.cached_attention.device,
        step.tensors(),
        {"position": torch.tensor(6, device=device), "key_mask": mask, "scale": 0.5},
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_41_opcheck_what_changes_scores(
    kind: str, dtype: torch.dtype, device: torch.device
) -> None:
    options = score_options(kind, 2, 4, device=device)
    inputs = attention_inputs(dtype=dtype, padding="left", causal=True, device=device)
    for op in (ops.masked_attention.default, ops._masked_attention_forward.default):
        torch.library.opcheck(op, inputs.tensors(), {**inputs.masks.kwargs(), **options})
    packed = make_packed((5, 9), heads=(4, 2), dtype=dtype, device=device)
    for op in (ops.packed_attention.default, ops._packed_attention_forward.default):
        torch.library.opcheck(op, packed.tensors, {**packed.kwargs(), **options})
    step = make_step(position=6, capacity=9, heads=(4, 2), dtype=dtype, garbage=0.0, device=device)
    for op, position in (
        (ops.cached_attention.default, 6),
        (ops.cached_attention.device, torch.tensor(6, device=device)),
    ):
        torch.library.opcheck(op, step.tensors(), {"position": position, **options})


def linear_arguments(device: torch.device) -> tuple[torch.Tensor, ...]:
    sizes = (2, 5, 9), (12, 9), (12,)
    return tuple(torch.randn(size).to(device, torch.bfloat16) for size in sizes)


def every_call(
    device: torch.device,
) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]:
    options = {"padding": "left", "attn": "bool", "causal": True, "dtype": torch.bfloat16}
    inputs = attention_inputs(**options, device=device)
    sizes = {"queries": 2, "position": 6, "capacity": 20, "heads": (4, 2), "dims": (8, 12)}
    step = make_step(**sizes, garbage=0.0, device=device)
    masks, scores = inputs.masks.kwargs(), torch.randn(2, 4, 5, 9).to(device, torch.bfloat16)
    attention = (masked_attn.masked_attention, inputs.tensors())
    cached = (masked_attn.cached_attention, step.tensors())
    packed = make_packed((5, 0, 9), heads=(4, 2), dims=(8, 12), device=device)
    return {
        "masked_attention": (*attention, masks),
        "with logsumexp": (*attention, {**masks, "return_logsumexp": True}),
        "masked_softmax": (masked_attn.masked_softmax, (scores,), masks),
        "expand_mask": (masked_attn.expand_mask, (masks["key_mask"],), {"dtype": torch.float16}),
        "packed_attention": (masked_attn.packed_attention, packed.tensors, packed.kwargs()),
        "cached_attention": (*cached, {"position": 6}),
        "linear": (masked_attn.linear, linear_arguments(device), {"activation": "silu"}),
        "position on the device": (*cached, {"position": torch.tensor(6, device=device)}),
        **{
            f"with {kind}": (*attention, {**masks, **score_options(kind, 2, 4, device=device)})
            for kind in KINDS
        },
    }


@pytest.mark.parametrize("name", list(every_call(torch.device("cpu"))))
def test_29_fake_and_meta_tensors_describe_the_result(name: str, device: torch.device) -> None:
    """Shape, dtype and strides without a kernel."""
    op, args, kwargs = every_call(device)[name]
    real = tuple_of(op(*args, **kwargs))
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        fake_args, fake_kwargs = torch.utils._pytree.tree_map_only(
            torch.Tensor, mode.from_tensor, (args, kwargs)
        )
        fake = tuple_of(op(*fake_args, **fake_kwargs))
    meta_args, meta_kwargs = torch.utils._pytree.tree_map_only(
        torch.Tensor, lambda t: t.to("meta"), (args, kwargs)
    )
    meta = tuple_of(op(*meta_args, **meta_kwargs))
    for expected, *others in zip(real, fake, meta, strict=True):
        for other, where in zip(others, (device.type, "meta"), strict=True):
            assert other.device.type == where
            assert other.dtype == expected.dtype
            assert other.shape == expected.shape
            assert other.stride() == expected.stride()


def tuple_of(result: Any) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def test_29_checks_hold_on_meta_tensors(device: torch.device) -> None:
    inputs = attention_inputs(dtype=torch.float32, device=device)
    query, key, value = (t.to("meta") for t in inputs.tensors())
    mask = torch.ones(2, 8, dtype=torch.bool, device="meta")
    with pytest.raises(RuntimeError, match=r"masked_attention: key_mask .*\[2, 9\].*\[2, 8\]"):
        masked_attn.masked_attention(query, key, value, key_mask=mask)


def test_29_vmap_is_right_or_refused(device: torch.device) -> None:
    inputs = attention_inputs(device=device)
    stacked = [torch.stack([t, t + 1]) for t in inputs.tensors()]
    expected = [masked_attn.masked_attention(*(t[i] for t in stacked)) for i in range(2)]
    try:
        ours = torch.vmap(masked_attn.masked_attention)(*stacked)
    except RuntimeError:
        return
    torch.testing.assert_close(ours, torch.stack(expected))


@pytest.mark.parametrize("name", ["masked_attention", "masked_softmax"])
def test_29_forward_mode_gradients_are_refused(name: str, device: torch.device) -> None:
    """A tangent must not be lost without a word."""
    x = torch.randn(1, 1, 4, 4).to(device)
    count = 3 if name == "masked_attention" else 1
    with pytest.raises(RuntimeError):
        torch.func.jvp(lambda t: getattr(masked_attn, name)(*[t] * count), (x,), (x,))


def test_schemas_are_the_documented_ones() -> None:
    """Argument names and defaults are the contract; caches are marked as written."""
    wanted = {
        "expand_mask": "mask dtype query_length causal window fill",
        "masked_softmax": "scores key_mask attn_mask causal window scale",
        "masked_attention": "query key value key_mask attn_mask causal window scale softcap sinks "
        "alibi_slopes dropout_p",
        "packed_attention": "query key value cu_seqlens max_seqlen cu_seqlens_k max_seqlen_k "
        "causal window scale softcap sinks alibi_slopes",
        "cached_attention": "query new_key new_value key_cache value_cache position key_mask "
        "attn_mask window scale softcap sinks alibi_slopes",
        "linear": "input weight bias transposed activation multiplier",
    }
    for name, arguments in wanted.items():
        packet = getattr(ops, name)
        for overload in packet.overloads():
            schema = getattr(packet, overload)._schema
            assert [a.name for a in schema.arguments] == arguments.split()
            written = [a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write]
            expected = ["key_cache", "value_cache"] if name == "cached_attention" else []
            assert written == expected
            assert all(r.alias_info is None for r in schema.returns)
    assert set(ops.cached_attention.overloads()) == {"default", "device"}
    for name in ("masked_attention", "packed_attention"):
        pair = getattr(ops, f"_{name}_forward"), getattr(ops, name)
        plain, with_sums = (str(packet.default._schema).split("(", 1)[1] for packet in pair)
        assert plain.split(" -> ")[0] == with_sums.split(" -> ")[0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_27_no_grad_and_inference_mode(dtype: torch.dtype, device: torch.device) -> None:
    """The same bits in every mode, on inference tensors too, and nothing is kept for a gradient."""
    inputs = attention_inputs(padding="left", dtype=dtype, device=device)
    expected = inputs.call(masked_attn.masked_attention)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            copies = Inputs(*(t.clone() for t in inputs.tensors()), inputs.masks)
            ours = copies.call(masked_attn.masked_attention)
            assert ours.is_inference() == (mode is torch.inference_mode)
            assert torch.equal(ours, expected) and not ours.requires_grad
            masked_attn.masked_softmax(torch.randn(2, 2, 3, 3, device=device), causal=True)
            masked_attn.expand_mask(torch.ones(2, 3, device=device), dtype=dtype)
            step = make_step(queries=2, dtype=dtype, device=device)
            written = step.written()
            step.call()
            assert torch.equal(step.key_cache.nan_to_num(), written[0].nan_to_num())
    outside = copies.call(masked_attn.masked_attention)
    assert torch.equal(outside, expected)
