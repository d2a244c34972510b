"""Tiny encoder-decoders, and models of images and of sound, from configs alone.

Their attention is loud: a mask or a bias that gets lost moves every number.
"""

from __future__ import annotations

import copy
import importlib
import inspect
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import transformers
from hf.models import PAD, VOCAB, fill
from huggingface_hub.errors import StrictDataclassFieldValidationError
from torch import Tensor

START = 1
WORDS = {
    "vocab_size": VOCAB,
    "pad_token_id": PAD,
    "bos_token_id": None,
    "eos_token_id": None,
    "decoder_start_token_id": START,
    # A token that was seen would predict itself for ever.
    "tie_word_embeddings": False,
}
T5 = {
    **WORDS,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 44,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
}
BART = {
    **WORDS,
    "d_model": 32,
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 44 for side in ("encoder", "decoder")},
    "max_position_embeddings": 64,
    "forced_eos_token_id": None,
}


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    Attributes:
        config: name of its config class.
        model: name of its model class.
        settings: of the config.
        own_encoder: layers of the encoder have attention of their own.
    """

    config: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    own_encoder: bool = False

    def build(self, implementation: str, **more: Any) -> Any:
        """In eval mode; equal arguments give equal weights, whatever the implementation."""
        if not hasattr(transformers, self.model):
            pytest.skip(f"this transformers has no {self.model}")
        config_class = getattr(transformers, self.config)
        try:
            config_class()
        except StrictDataclassFieldValidationError as error:
            pytest.skip(f"this transformers refuses the defaults of {self.config}: {error}")
        config = config_class(**copy.deepcopy({**self.settings, **more}))
        config._attn_implementation = implementation
        model = getattr(transformers, self.model)(config).eval()
        fill(model, seed=1, std=0.3)
        loud_bias(model)
        return model

    def on_interface(self) -> bool:
        """Whether its layers ask the attention interface in this transformers."""
        if not hasattr(transformers, self.model):
            pytest.skip(f"this transformers has no {self.model}")
        module = importlib.import_module(getattr(transformers, self.model).__module__)
        return "ALL_ATTENTION_FUNCTIONS" in inspect.getsource(module)


def loud_bias(model: Any) -> None:
    generator = torch.Generator().manual_seed(5)
    for name, weight in model.named_parameters():
        if "relative_attention_bias" in name:
            with torch.no_grad():
                weight.copy_(2 * torch.randn(weight.shape, generator=generator))


def encoder_decoder(name: str, settings: dict[str, Any], **more: Any) -> Kind:
    return Kind(f"{name}Config", f"{name}ForConditionalGeneration", settings, **more)


# With a bias by distance, which is handed to the attention function.
BIASED = {
    "t5": encoder_decoder("T5", T5),
    "t5-gated": encoder_decoder("T5", {**T5, "feed_forward_proj": "gated-gelu"}),
    "mt5": encoder_decoder("MT5", T5),
    "umt5": encoder_decoder("UMT5", T5),
    "longt5": encoder_decoder("LongT5", {**T5, "local_radius": 3}, own_encoder=True),
    "longt5-global": encoder_decoder(
        "LongT5",
        {
            **T5,
            "local_radius": 3,
            "global_block_size": 4,
            "encoder_attention_type": "transient-global",
        },
        own_encoder=True,
    ),
    "switch": encoder_decoder(
        "SwitchTransformers", {**T5, "num_experts": 2, "expert_capacity": 64, "router_bias": False}
    ),
}
PLAIN = {
    "bart": encoder_decoder("Bart", BART),
    "mbart": encoder_decoder("MBart", BART),
    "marian": Kind("MarianConfig", "MarianMTModel", {**BART, "decoder_vocab_size": VOCAB}),
    "pegasus": encoder_decoder("Pegasus", BART),
    "m2m_100": encoder_decoder("M2M100", {**BART, "encoder_layerdrop": 0.0}),
    "blenderbot": encoder_decoder("Blenderbot", {**BART, "encoder_no_repeat_ngram_size": 0}),
}
ENCODER_DECODERS = {**BIASED, **PLAIN}

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
IMAGE = {**SIZES, "image_size": 16, "patch_size": 4}
TEXT = {**SIZES, "vocab_size": VOCAB, "max_position_embeddings": 32, "eos_token_id": VOCAB - 1}
IMAGES = {
    "vit": Kind("ViTConfig", "ViTModel", IMAGE),
    "deit": Kind("DeiTConfig", "DeiTModel", IMAGE),
    "dinov2": Kind("Dinov2Config", "Dinov2Model", IMAGE),
    "clip-vision": Kind("CLIPVisionConfig", "CLIPVisionModel", IMAGE),
    "siglip-vision": Kind("SiglipVisionConfig", "SiglipVisionModel", IMAGE),
}
SOUND = {
    **SIZES,
    "vocab_size": VOCAB,
    # Normalised over channels: an utterance then does not depend on the pads behind it.
    "feat_extract_norm": "layer",
    "conv_dim": [16, 16],
    "conv_kernel": [4, 3],
    "conv_stride": [3, 2],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
    "do_stable_layer_norm": True,
}
SOUNDS = {
    "wav2vec2": Kind("Wav2Vec2Config", "Wav2Vec2Model", SOUND),
    "hubert": Kind("HubertConfig", "HubertModel", SOUND),
}
WHISPER = encoder_decoder(
    "Whisper",
    {
        **BART,
        "num_mel_bins": 8,
        "max_source_positions": 20,
        "max_target_positions": 48,
        "begin_suppress_tokens": None,
        "suppress_tokens": None,
    },
)


def mels(batch: int) -> Tensor:
    """``[batch, bins, frames]`` for ``WHISPER``, which takes one length only."""
    return torch.randn(batch, 8, 40, generator=torch.Generator().manual_seed(6))
