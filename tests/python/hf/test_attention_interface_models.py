"""Models of every kind under attn_implementation="masked_attn": right, or refused by name.

A choice of every kind of layer, for speed; ``make model-types`` goes over all of them.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

sys.path.insert(0, str(Path(__file__).parent))

from hf.models import prompts
from model_types.compare import NOT_BUILT, PART, REFUSED, RIGHT, judge
from transformers import (
    CONFIG_MAPPING,
    BloomConfig,
    BloomModel,
    LlamaConfig,
    LlamaModel,
    LlamaPreTrainedModel,
    PreTrainedConfig,
)
from transformers.masking_utils import causal_mask_function
from transformers.modeling_utils import PreTrainedModel

from masked_attn.hf.attention import masks as interface_mask
from masked_attn.hf.attention.mask_use import MaskUse, mask_use
from masked_attn.hf.attention.masks import make_mask

pytestmark = pytest.mark.integration

# Layers on the interface: decoders, encoders, encoder-decoders, windows, chunks, experts, images.
ON_INTERFACE = [
    *("gpt2", "llama", "mistral", "qwen2_moe", "llama4_text", "gemma3_text", "opt", "gpt_neox"),
    *("bert", "modernbert", "bart", "whisper", "t5gemma2", "nllb-moe", "vit", "clip"),
    *("gemma2", "vaultgemma", "gpt_oss"),  # softcap and sinks
]
# Their layers add the mask to their scores, or index it.
OWN_ATTENTION = [
    *("bloom", "mpt", "codegen", "gpt_neox_japanese", "roformer", "mpnet", "megatron-bert"),
    *("rembert", "convbert", "ibert", "squeezebert", "luke", "big_bird", "canine", "visual_bert"),
    *("layoutlmv3", "lilt", "mvp", "nystromformer", "imagegpt"),
]
# Their bias by distance is handed to the attention function, in newer releases of transformers.
BIASED = [
    *("t5", "mt5", "umt5", "longt5", "switch_transformers", "udop", "inkling_text"),
    *("seamless_m4t", "wav2vec2-conformer", "wav2vec2-bert"),
]
READ_MASK = ["doge", "bigbird_pegasus", "minimax_m3_vl"]
REFUSED_BY_NAME = {
    "hy_v4": "indices",
    "deepseek_v32": "indices",
    "gptj": "masked_attn",
    "falcon": "masked_attn",
}
# Their classes of attention are chosen by name, where they are not on the interface: a KeyError.
CHOSEN_BY_NAME = ("gptj", "falcon")


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def verdict_of(model_type):
    if model_type not in CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {model_type}")
    verdict = judge(model_type)
    if verdict.verdict in (NOT_BUILT, PART):
        pytest.skip(f"{model_type}: {verdict.why}")
    return verdict


def says(model_type, word):
    """Whether the modeling code of this transformers has ``word``: a look that is not ours."""
    name = CONFIG_MAPPING[model_type].__module__.replace(".configuration_", ".modeling_")
    return word in inspect.getsource(importlib.import_module(name))


@pytest.mark.parametrize("model_type", ON_INTERFACE)
def test_60_layers_on_the_interface_run_ours(model_type):
    verdict = verdict_of(model_type)
    assert (verdict.verdict, verdict.on_interface) == (RIGHT, True), verdict
    assert verdict.told == ""


@pytest.mark.parametrize("model_type", OWN_ATTENTION)
def test_60_attention_of_their_own_is_stocks_and_said(model_type):
    interface_mask._told.clear()
    verdict = verdict_of(model_type)
    if says(model_type, "ALL_ATTENTION_FUNCTIONS"):  # newer releases move models there
        assert verdict.verdict in (RIGHT, REFUSED), verdict
        assert verdict.told == ""
    else:
        assert (verdict.verdict, verdict.on_interface) == (RIGHT, False), verdict
        # Older releases make the masks of such a model without asking anybody.
        told = "do not ask transformers' attention interface" in verdict.told
        assert told == says(model_type, "masking_utils"), verdict


@pytest.mark.parametrize("model_type", READ_MASK)
def test_60_layers_that_read_their_mask(model_type):
    verdict = verdict_of(model_type)
    assert verdict.verdict == RIGHT, verdict


@pytest.mark.parametrize("model_type", BIASED)
def test_60_a_bias_by_distance_is_added(model_type):
    verdict = verdict_of(model_type)
    on_interface = says(model_type, "ALL_ATTENTION_FUNCTIONS")
    assert (verdict.verdict, verdict.on_interface) == (RIGHT, on_interface), verdict


@pytest.mark.parametrize("model_type", REFUSED_BY_NAME)
def test_60_refused_by_name(model_type):
    verdict = verdict_of(model_type)
    on_interface = says(model_type, "ALL_ATTENTION_FUNCTIONS")
    if on_interface == (model_type in CHOSEN_BY_NAME):  # another release than those that refuse it
        assert (verdict.verdict, verdict.on_interface) == (RIGHT, on_interface), verdict
    else:
        assert verdict.verdict == REFUSED, verdict
        assert any(name in verdict.why for name in REFUSED_BY_NAME[model_type].split("|"))


def test_60_a_model_is_told_of_once():
    interface_mask._told.clear()
    config = BloomConfig(vocab_size=101, hidden_size=32, n_layer=1, n_head=4)
    config._attn_implementation = "masked_attn"
    model = BloomModel(config).eval()
    ids, mask = prompts([5, 9, 3])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            model(ids, attention_mask=mask)
    assert len([w for w in caught if "masked_attn: the layers of Bloom" in str(w.message)]) == 1


REMOTE = """
import torch
from torch import nn
from transformers import LlamaConfig, PreTrainedModel

class RemoteSelfAttention(nn.Module):
    def forward(self, scores, attention_mask=None):
        return torch.softmax(scores + attention_mask, -1)

class RemoteModel(PreTrainedModel):
    config_class = RemoteConfig
"""


def test_60_code_of_a_users_own_is_found_by_its_config(tmp_path, monkeypatch):
    """Remote code: the module is named as its author liked, and no list knows it."""

    class RemoteConfig(LlamaConfig):
        pass

    assert mask_use(RemoteConfig) is mask_use(LlamaConfig) is MaskUse.HANDED_ON
    path = tmp_path / "remote_code.py"
    path.write_text(REMOTE)
    module = types.ModuleType("remote_code")
    module.__file__, module.RemoteConfig = str(path), RemoteConfig
    exec(compile(REMOTE, str(path), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "remote_code", module)
    assert issubclass(module.RemoteModel, PreTrainedModel)
    assert mask_use(RemoteConfig) is MaskUse.READ
    mask = make_mask(1, 4, 4, mask_function=causal_mask_function, config=RemoteConfig())
    assert mask.shape == (1, 1, 4, 4) and mask.is_floating_point()


ELSEWHERE = """
import layers_of_my_own
from transformers import PreTrainedModel

class ElsewhereModel(PreTrainedModel):
    config_class = ElsewhereConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = layers_of_my_own.Layer()
"""


def test_60_layers_that_are_not_found_get_stocks_mask(tmp_path, monkeypatch):
    """They may add it to their scores: only the model names them, as a part of another module."""

    class ElsewhereConfig(LlamaConfig):
        pass

    path = tmp_path / "elsewhere.py"
    path.write_text(ELSEWHERE)
    monkeypatch.setitem(sys.modules, "layers_of_my_own", types.ModuleType("layers_of_my_own"))
    module = types.ModuleType("elsewhere")
    module.__file__, module.ElsewhereConfig = str(path), ElsewhereConfig
    exec(compile(ELSEWHERE, str(path), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    for model in (LlamaPreTrainedModel, *LlamaPreTrainedModel.__subclasses__()):
        monkeypatch.setattr(model, "config_class", PreTrainedConfig)
    assert mask_use(ElsewhereConfig) is MaskUse.READ


DECODER = """
from torch import nn
from transformers import PreTrainedModel
from transformers.masking_utils import create_causal_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

class Attention(nn.Module):
    def __init__(self, config, is_causal: bool = False):
        self.is_causal = is_causal

    def forward(self, states, attention_mask=None):
        return ALL_ATTENTION_FUNCTIONS["name"](self, states, states, states, attention_mask)

class Layer(nn.Module):
    def __init__(self, config):
        self.attention = Attention(TOLD)

class DecoderModel(PreTrainedModel):
    config_class = DecoderConfig
    _supports_sdpa = True

    def forward(self, states):
        return self.layer(states, create_causal_mask(states))
"""


@pytest.mark.parametrize("told", [True, False])
def test_60_decoders_whose_layers_are_not_told_get_a_mask(told, tmp_path, monkeypatch):
    """UMT5 in transformers 5.16: without pads, its layers would see what comes after them."""

    class DecoderConfig(LlamaConfig):
        pass

    source = DECODER.replace("TOLD", "config, is_causal=True" if told else "config")
    path = tmp_path / "decoder.py"
    path.write_text(source)
    module = types.ModuleType(f"decoder_of_my_own_{told}")
    module.__file__, module.DecoderConfig = str(path), DecoderConfig
    exec(compile(source, str(path), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for model in (LlamaPreTrainedModel, *LlamaPreTrainedModel.__subclasses__()):
        monkeypatch.setattr(model, "config_class", PreTrainedConfig)
    assert mask_use(DecoderConfig) is (MaskUse.HANDED_ON if told else MaskUse.MUST_SAY)
    mask = make_mask(2, 4, 4, mask_function=causal_mask_function, config=DecoderConfig())
    assert mask is None if told else torch.equal(mask, torch.ones(2, 4, dtype=torch.bool))


def test_60_a_class_that_comes_later_counts(monkeypatch):
    """As in a notebook, where a model of one's own follows one of transformers."""

    class LaterConfig(LlamaConfig):
        pass

    module = types.ModuleType("a_module_without_source")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.Layer = type("Layer", (torch.nn.Module,), {"__module__": module.__name__})
    assert mask_use(LaterConfig) is MaskUse.HANDED_ON

    class LaterModel(LlamaModel):
        config_class = LaterConfig
        __module__ = module.__name__

    assert mask_use(LaterConfig) is MaskUse.READ, LaterModel


def test_a_mask_that_must_not_be_skipped_is_whole():
    config = LlamaConfig(attn_implementation="masked_attn")
    LlamaModel  # noqa: B018, loads the modeling code
    asked = {"config": config, "device": torch.device("cpu")}
    whole = make_mask(1, 4, 4, allow_is_causal_skip=False, **asked)
    assert make_mask(1, 4, 4, **asked) is None
    assert torch.equal(whole[0, 0], torch.ones(4, 4, dtype=torch.bool).tril())
