"""UDOP, Pix2Struct and Pop2Piano: the other encoder-decoders that hand a bias to attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from hf.interface_others.models import T5, VOCAB, Kind, encoder_decoder
from hf.models import PAD, prompts
from support.calls import CallCounter
from torch import Tensor

import masked_attn.hf  # noqa: F401

pytestmark = pytest.mark.integration

SIZES = {n: value for n, value in T5.items() if n != "tie_word_embeddings"}
TEXT = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "d_kv": 8,
    "d_ff": 44,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "decoder_start_token_id": 1,
    "pad_token_id": PAD,
    "eos_token_id": None,
}
PATCHES = {
    "hidden_size": 32,
    "patch_embed_hidden_size": 20,
    "d_ff": 44,
    "d_kv": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "seq_len": 9,
}
KINDS = {
    "udop": encoder_decoder(
        "Udop",
        {**SIZES, "relative_attention_num_buckets": 32, "image_size": 16, "patch_size": 8},
    ),
    "pix2struct": encoder_decoder("Pix2Struct", {"text_config": TEXT, "vision_config": PATCHES}),
    "pop2piano": encoder_decoder("Pop2Piano", {**SIZES, "composer_vocab_size": 4}),
}


def encoder_inputs(name: str) -> dict[str, Tensor]:
    ids, mask = prompts([5, 9, 3], side="right")
    generator = torch.Generator().manual_seed(1)
    if name == "pix2struct":
        patches = torch.randn(3, 9, 22, generator=generator)
        patches[..., :2] = torch.arange(9)[None, :, None] % 4  # rows and columns
        return {"flattened_patches": patches, "attention_mask": mask}
    given = {"input_ids": ids, "attention_mask": mask}
    if name == "udop":
        boxes = torch.rand(3, 9, 4, generator=generator).sort(-1).values / 2
        given |= {"bbox": boxes, "pixel_values": torch.zeros(3, 3, 16, 16)}
    return given


def build(kind: Kind, way: str) -> Any:
    parts = {}
    for name in ("text_config", "vision_config"):
        if name in kind.settings:
            parts[name] = {**kind.settings[name], "attn_implementation": way}
    return kind.build(way, **parts)


@pytest.mark.parametrize("name", KINDS)
def test_a_padded_forward_equals_stock(name):
    targets, target_mask = prompts([4, 2, 6], side="right", seed=2)
    given = {"decoder_input_ids": targets, "decoder_attention_mask": target_mask}
    kind = KINDS[name]
    with torch.no_grad():
        expected = build(kind, "eager")(**encoder_inputs(name), **given, use_cache=False)
        with CallCounter() as calls:
            ours = build(kind, "masked_attn")(**encoder_inputs(name), **given, use_cache=False)
    real = target_mask.bool()
    torch.testing.assert_close(ours.logits[real], expected.logits[real], atol=2e-4, rtol=1e-4)
    if kind.on_interface():
        # Pix2Struct's encoder of images has been there longer than its decoder of text.
        assert calls["masked_attention"] in ({6} if name != "pix2struct" else {2, 6})
