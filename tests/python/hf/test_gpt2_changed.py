"""A transformers whose GPT-2 is another: only ``patch`` dies, and says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("transformers")

from hf.models import CACHE, gpt2
from transformers import GenerationMixin
from transformers.models.gpt2 import modeling_gpt2
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention, GPT2Block, GPT2Model

import masked_attn
from masked_attn.hf import versions

pytestmark = pytest.mark.integration

COMMAND = f'pip install "transformers=={versions.TESTED[-1]}"'

REST_LIVES = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM
import masked_attn
from masked_attn import KVCache, patch, patched, register_attention, report, unpatch
register_attention()
sizes = dict(hidden_size=16, intermediate_size=16, num_attention_heads=2, num_key_value_heads=1)
model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, vocab_size=32, **sizes)).eval()
ids = torch.arange(3, 10)[None]
with torch.no_grad():
    expected = model(ids).logits
    model.set_attn_implementation("masked_attn")
    torch.testing.assert_close(model(ids).logits, expected)
cache = KVCache(max_length=4)
cache.update(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4), 0)
assert cache.get_seq_length() == 3
assert masked_attn.masked_attention(*torch.ones(3, 1, 1, 2, 4)).shape == (1, 1, 2, 4)
model.set_attn_implementation("sdpa")
{broken}
try:
    patch(model)
except RuntimeError as error:
    message = str(error)
    assert message.endswith({command!r}) and {wanted!r} in message, message
else:
    assert not {wanted!r}, "no error"
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, expected)
    assert report(model)["patched"]
unpatch(model)
"""

GPT2 = "transformers.models.gpt2.modeling_gpt2"
LLAMA = "transformers.models.llama.modeling_llama"
BROKEN = {
    "another family lost a name": (f"import {GPT2} as m\ndel m.GPT2Block", "", ""),
    "the file of another family is gone": (
        f"import sys\nsys.modules[{GPT2!r}] = None",
        "",
        "",
    ),
    "a name of the family is gone": (
        "",
        f"import {LLAMA} as m\ndel m.LlamaDecoderLayer",
        "Llama is not where it was (module",
    ),
    "eager attention is gone": (
        "",
        f"import {LLAMA} as m\ndel m.eager_attention_forward",
        "Llama is not where it was (module",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_68_what_is_broken_breaks_nothing_else(how):
    first, broken, wanted = BROKEN[how]
    program = f"{first}\n{REST_LIVES.format(command=COMMAND, wanted=wanted, broken=broken)}"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def other_names(self, hidden_states, kv=None, attention_mask=None, encoder_hidden_states=None): ...


@pytest.mark.parametrize(
    ("owner", "name", "replacement", "wanted"),
    [
        (GPT2Attention, "forward", other_names, rf"GPT2Attention.forward has no .*{CACHE}"),
        (GPT2Block, "forward", other_names, rf"GPT2Block.forward has no parameter {CACHE}"),
        (
            GPT2Model,
            "forward",
            lambda self, input_ids=None, kv=None: None,
            "GPT2Model.forward has no parameter attention_mask, position_ids",
        ),
        (
            GenerationMixin,
            "prepare_inputs_for_generation",
            lambda self, input_ids, kv=None: None,
            rf"prepare_inputs_for_generation has no parameter {CACHE}",
        ),
        (
            GenerationMixin,
            "_prepare_cache_for_generation",
            lambda self, config: None,
            "_prepare_cache_for_generation has no parameter generation_config",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_52_a_rename_in_gpt2_is_an_error_of_patch(monkeypatch, owner, name, replacement, wanted):
    model = gpt2()
    monkeypatch.setattr(replacement, "__module__", owner.__module__)
    monkeypatch.setattr(owner, name, replacement)
    with pytest.raises(RuntimeError, match=wanted) as caught:
        masked_attn.patch(model)
    assert str(caught.value).endswith(COMMAND)
    assert ", ".join(versions.TESTED) in str(caught.value)
    assert masked_attn.report(model) == {"patched": False}


def test_52_the_method_that_prepares_the_cache_is_gone(monkeypatch):
    model = gpt2()
    monkeypatch.delattr(GenerationMixin, "_prepare_cache_for_generation")
    with pytest.raises(RuntimeError, match="_prepare_cache_for_generation") as caught:
        masked_attn.patch(model)
    assert str(caught.value).endswith(COMMAND)


def test_52_a_layer_without_an_attribute_is_an_error_of_patch():
    model = gpt2()
    del model.transformer.h[1].attn.config
    with pytest.raises(RuntimeError, match="attn of GPT2Block has no attribute config"):
        masked_attn.patch(model)
    assert model.transformer.h[0].attn.config is model.config
    assert masked_attn.report(model) == {"patched": False}


def test_52_a_cache_with_a_third_name_is_not_taken_for_the_old_one(monkeypatch):
    model = gpt2()
    names = ("input_ids", "kv", "attention_mask", "token_type_ids", "position_ids")
    names += ("inputs_embeds", "encoder_hidden_states", "encoder_attention_mask", "use_cache")
    scope = {"__name__": modeling_gpt2.__name__}
    exec(f"def forward(self, {', '.join(names)}, **kwargs): ...", scope)
    monkeypatch.setattr(modeling_gpt2.GPT2Model, "forward", scope["forward"])
    with pytest.raises(
        RuntimeError, match="GPT2Model.forward has no parameter past_key_values or cache"
    ):
        masked_attn.patch(model)


def test_68_the_operators_need_no_transformers_at_all():
    program = (
        "import sys\nsys.modules['transformers'] = None\nimport masked_attn, torch\n"
        "masked_attn.masked_attention(*torch.ones(3, 1, 1, 2, 4))\n"
        "try:\n    masked_attn.patch\n"
        "except ImportError as error:\n    assert 'needs transformers' in str(error)\n"
        "else:\n    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
