"""Names, order and defaults of arguments are those of flash-attn 2, letter by letter."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from masked_attn import flash

SCORES = [
    ("dropout_p", 0.0),
    ("softmax_scale", None),
    ("causal", False),
    ("window_size", (-1, -1)),
    ("softcap", 0.0),
    ("alibi_slopes", None),
    ("deterministic", False),
    ("return_attn_probs", False),
]
LENGTHS = ["cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k"]

# As flash-attn 2.8 has them: those without a default, then those with one.
SIGNATURES = {
    "flash_attn_func": (["q", "k", "v"], SCORES),
    "flash_attn_kvpacked_func": (["q", "kv"], SCORES),
    "flash_attn_qkvpacked_func": (["qkv"], SCORES),
    "flash_attn_varlen_func": (["q", "k", "v", *LENGTHS], [*SCORES, ("block_table", None)]),
    "flash_attn_varlen_kvpacked_func": (["q", "kv", *LENGTHS], SCORES),
    "flash_attn_varlen_qkvpacked_func": (["qkv", "cu_seqlens", "max_seqlen"], SCORES),
    "flash_attn_with_kvcache": (
        ["q", "k_cache", "v_cache"],
        [
            ("k", None),
            ("v", None),
            ("rotary_cos", None),
            ("rotary_sin", None),
            ("cache_seqlens", None),
            ("cache_batch_idx", None),
            ("cache_leftpad", None),
            ("block_table", None),
            ("softmax_scale", None),
            ("causal", False),
            ("window_size", (-1, -1)),
            ("softcap", 0.0),
            ("rotary_interleaved", True),
            ("alibi_slopes", None),
            ("num_splits", 0),
            ("return_softmax_lse", False),
        ],
    ),
    "bert_padding.index_first_axis": (["input", "indices"], []),
    "bert_padding.index_put_first_axis": (["values", "indices", "first_axis_dim"], []),
    "bert_padding.pad_input": (["hidden_states", "indices", "batch", "seqlen"], []),
    "bert_padding.unpad_input": (["hidden_states", "attention_mask"], [("unused_mask", None)]),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    function = flash
    for part in name.split("."):
        function = getattr(function, part)
    needed, optional = SIGNATURES[name]
    expected = [(each, inspect.Parameter.empty) for each in needed] + optional
    found = inspect.signature(function).parameters.values()
    assert [(each.name, each.default) for each in found] == expected
    assert all(each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for each in found)


def test_every_function_is_listed():
    functions = [name for name in flash.__all__ if name.startswith("flash_attn")]
    functions += [f"bert_padding.{name}" for name in flash.bert_padding.__all__]
    assert sorted(functions) == sorted(SIGNATURES)


def test_transformers_is_not_imported():
    code = "import sys, masked_attn.flash; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
