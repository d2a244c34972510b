"""ViT, CLIP, wav2vec 2.0, Whisper and their like with attn_implementation="masked_attn"."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from hf.interface_others.models import IMAGE, IMAGES, SOUNDS, TEXT, WHISPER, Kind, mels
from hf.models import VOCAB, prompts
from hf.tokens import assert_same_as_alone, assert_same_tokens
from support.calls import CallCounter

from masked_attn.hf import patch

pytestmark = pytest.mark.integration

CLOSE = {"atol": 2e-4, "rtol": 1e-4}
WAYS = ("masked_attn", "eager")
SAMPLES = [300, 190, 67]


def pixels(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", IMAGES)
def test_images_equal_stock(name):
    with torch.no_grad():
        expected = IMAGES[name].build("eager")(pixels()).last_hidden_state
        with CallCounter() as calls:
            ours = IMAGES[name].build("masked_attn")(pixels()).last_hidden_state
    torch.testing.assert_close(ours, expected, **CLOSE)
    assert calls.counts == {"masked_attention": 2}


@pytest.mark.parametrize("name", IMAGES)
def test_gradients_of_images_equal_stock(name):
    grads = []
    for way in WAYS:
        model = IMAGES[name].build(way)
        model(pixels()).last_hidden_state.square().mean().backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(*grads, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["vit", "clip-vision"])
def test_attentions_of_images_are_those_of_eager(name):
    with torch.no_grad():
        ours, stock = (IMAGES[name].build(way)(pixels(), output_attentions=True) for way in WAYS)
    torch.testing.assert_close(ours.attentions, stock.attentions, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["CLIP", "Siglip"])
def test_captions_and_images_equal_stock(name):
    """The text tower of CLIP is causal and that of SigLIP is not."""
    parts = {"text_config": TEXT, "vision_config": IMAGE}
    kind = Kind(f"{name}Config", f"{name}Model", {**parts, "projection_dim": 32})
    ids, mask = prompts([5, 9, 3], side="right")
    ids[mask.bool()] = ids[mask.bool()].clamp(max=VOCAB - 2)
    ids[torch.arange(3), mask.sum(1) - 1] = VOCAB - 1  # where CLIP reads its sentence
    results = []
    with torch.no_grad():
        for way in WAYS:
            with CallCounter() as calls:
                out = kind.build(way)(input_ids=ids, attention_mask=mask, pixel_values=pixels())
            results.append([out.logits_per_text, out.text_embeds, out.image_embeds])
            assert calls["masked_attention"] == (4 if way == "masked_attn" else 0)
    torch.testing.assert_close(*results, **CLOSE)


def sound() -> tuple[torch.Tensor, torch.Tensor]:
    mask = (torch.arange(max(SAMPLES)) < torch.tensor(SAMPLES)[:, None]).long()
    noise = torch.randn(mask.shape, generator=torch.Generator().manual_seed(3))
    return noise * mask, mask


@pytest.mark.parametrize("name", SOUNDS)
def test_padded_sound_equals_stock_and_each_alone(name):
    samples, mask = sound()
    ours, stock = (SOUNDS[name].build(way) for way in WAYS)
    frames = [int(ours._get_feat_extract_output_lengths(torch.tensor(n))) for n in SAMPLES]
    with torch.no_grad():
        with CallCounter() as calls:
            together = ours(samples, attention_mask=mask).last_hidden_state
        expected = stock(samples, attention_mask=mask).last_hidden_state
    assert calls.counts == {"masked_attention": 2}
    for row, length in enumerate(frames):
        torch.testing.assert_close(together[row, :length], expected[row, :length], **CLOSE)
        with torch.no_grad():
            alone = stock(samples[row : row + 1, : SAMPLES[row]]).last_hidden_state
        torch.testing.assert_close(together[row, :length], alone[0], **CLOSE)


def test_whisper_forward_equals_stock():
    """Its encoder has no mask, its scale is in its queries."""
    ids, mask = prompts([4, 2, 6], side="right")
    results = []
    for way in WAYS:
        with torch.no_grad(), CallCounter() as calls:
            out = WHISPER.build(way)(
                mels(3), decoder_input_ids=ids, decoder_attention_mask=mask, use_cache=False
            )
        results.append([out.encoder_last_hidden_state, out.logits[mask.bool()]])
        assert calls["masked_attention"] == (6 if way == "masked_attn" else 0)
    torch.testing.assert_close(*results, **CLOSE)


def whisper_tokens(way: str, row: int | None = None, **more):
    features = mels(3) if row is None else mels(3)[row : row + 1]
    model = WHISPER.build(way)
    model.generation_config.max_length = 14
    with torch.no_grad():
        return super(type(model), model).generate(
            features,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            **more,
        )


@pytest.mark.parametrize("beams", [1, 3])
def test_whisper_generates_the_tokens_of_each_row_alone(beams):
    with CallCounter() as calls:
        together = whisper_tokens("masked_attn", num_beams=beams)
    alone = [whisper_tokens("eager", row, num_beams=beams) for row in range(3)]
    steps = together.sequences.shape[1] - 1
    assert calls["masked_attention"] == 2 + 4 * steps
    if beams == 1:
        assert_same_as_alone(together, alone)
    else:
        assert torch.equal(together.sequences, torch.cat([one.sequences for one in alone]))


def test_whisper_with_a_static_cache():
    ours, stock = (whisper_tokens(way, cache_implementation="static") for way in WAYS)
    assert_same_tokens(ours, stock)


@pytest.mark.parametrize("kind", [*IMAGES.values(), *SOUNDS.values(), WHISPER])
def test_patch_names_the_other_way(kind):
    with pytest.raises(TypeError, match='attn_implementation="masked_attn"'):
        patch(kind.build("sdpa"))
