"""One small model of every kind that has a GPT-2 inside, and what to call it with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hf.models import PAD, VOCAB, fill, gpt2, positions_of, prompts
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    EncoderDecoderModel,
    GPT2DoubleHeadsModel,
    GPT2ForQuestionAnswering,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
    GPT2LMHeadModel,
    GPT2Model,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTModel,
)

IDS, MASK = prompts([4, 7, 2])
REAL = MASK.bool()
TEXT = {"input_ids": IDS, "attention_mask": MASK, "position_ids": positions_of(MASK)}
CHOICES = {
    "input_ids": torch.stack([IDS, IDS.flip(0)], 1),
    "attention_mask": torch.stack([MASK, MASK.flip(0)], 1),
    "position_ids": positions_of(torch.stack([MASK, MASK.flip(0)], 1)).flatten(0, 1),
    "mc_token_ids": torch.tensor([[6, 5], [6, 6], [5, 6]]),
}
WORDS = {
    "decoder_input_ids": IDS,
    "decoder_attention_mask": MASK,
    "decoder_position_ids": positions_of(MASK),
}
# The encoder pads on the right, the decoder on the left.
ENCODED = dict(zip(("input_ids", "attention_mask"), prompts([5, 3, 8], side="right"), strict=True))
PIXELS = {"pixel_values": torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))}


@dataclass(frozen=True)
class Head:
    """A model, its inputs, and for each output the positions that count."""

    build: Callable[[], Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, Any]
    labels: dict[str, Tensor]
    model_class: Any


def encoder_decoder() -> Any:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    encoder = BertModel(BertConfig(vocab_size=VOCAB, intermediate_size=32, **sizes))
    return _with_gpt2_decoder(EncoderDecoderModel, encoder)


def vision_encoder_decoder() -> Any:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    encoder = ViTModel(ViTConfig(image_size=8, patch_size=4, intermediate_size=32, **sizes))
    return _with_gpt2_decoder(VisionEncoderDecoderModel, encoder)


def _with_gpt2_decoder(model_class: Any, encoder: Any) -> Any:
    fill(encoder, 3, 0.2)
    decoder = gpt2(add_cross_attention=True, is_decoder=True)
    model = model_class(encoder=encoder, decoder=decoder).eval()
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = 1
    model.config.pad_token_id = model.generation_config.pad_token_id = PAD
    return model


def _gpt2_head(
    model_class: Any, outputs: dict[str, Any], inputs: Any = None, **labels: Any
) -> Head:
    def build() -> Any:
        return gpt2(model_class=model_class, num_labels=3)

    return Head(build, inputs or TEXT, outputs, labels, model_class)


EVERY = slice(None)
BOTH = CHOICES["attention_mask"].bool()
CLASSES = torch.tensor([2, 0, 1])
TAGS = IDS.remainder(3).masked_fill(~REAL, -100)
NEXT = IDS.masked_fill(~REAL, -100)
HEADS = {
    "model": _gpt2_head(GPT2Model, {"last_hidden_state": REAL}),
    "language": _gpt2_head(GPT2LMHeadModel, {"logits": REAL}, labels=NEXT),
    "double": _gpt2_head(
        GPT2DoubleHeadsModel,
        {"logits": BOTH, "mc_logits": EVERY},
        CHOICES,
        labels=CHOICES["input_ids"].masked_fill(~BOTH, -100),
        mc_labels=torch.tensor([0, 1, 1]),
    ),
    "sequence": _gpt2_head(GPT2ForSequenceClassification, {"logits": EVERY}, labels=CLASSES),
    "token": _gpt2_head(GPT2ForTokenClassification, {"logits": REAL}, labels=TAGS),
    "question": _gpt2_head(
        GPT2ForQuestionAnswering,
        {"start_logits": REAL, "end_logits": REAL},
        start_positions=torch.tensor([4, 1, 5]),
        end_positions=torch.tensor([6, 5, 6]),
    ),
    "encoder-decoder": Head(
        encoder_decoder,
        {**ENCODED, **WORDS},
        {"logits": REAL},
        {},
        EncoderDecoderModel,
    ),
    "vision-encoder-decoder": Head(
        vision_encoder_decoder, {**PIXELS, **WORDS}, {"logits": REAL}, {}, VisionEncoderDecoderModel
    ),
}


def named_heads(*names: str) -> list[Any]:
    """The names as test parameters; what this transformers cannot build is skipped."""
    skip = pytest.mark.skip(reason="this transformers refuses the config of an encoder-decoder")
    return [pytest.param(name, marks=() if buildable(name) else skip) for name in names]


def buildable(name: str) -> bool:
    try:
        HEADS[name].build()
    except StrictDataclassError:
        return False
    return True
