"""``generate`` of batches with pads: in chunks, padded on the right, by generators of others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

pytest.importorskip("transformers")

from hf.models import CACHE, VOCAB, generate, gpt2, positions_of, prompts
from hf.test_padding_free import tokens_seen
from hf.tokens import assert_same_tokens
from transformers import (
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)

from masked_attn.hf import patch
from masked_attn.hf.call import plan as plans
from masked_attn.hf.call.forward import patch_of
from masked_attn.hf.families.gpt2 import GPT2

pytestmark = pytest.mark.integration

IDS, LEFT = prompts([5, 9, 3])
RIGHT_IDS, RIGHT = prompts([5, 9, 3], side="right")
HOLES = torch.tensor(
    [[0, 0, 1, 1, 0, 0, 1, 1, 0], [1, 0, 1, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1, 1]]
)
GAPS = {"right": (RIGHT_IDS, RIGHT), "holes": (RIGHT_IDS.clamp(min=5), HOLES)}
MODES = {
    "greedy": {},
    "without-a-cache": {"use_cache": False},
    "static-cache": {"cache_implementation": "static"},
    "dynamic-cache": {"cache_implementation": "dynamic"},
    "chunks": {"prefill_chunk_size": 4},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "num_return_sequences": 2, "temperature": 1.5},
    "beam-sampling": {"do_sample": True, "num_beams": 3},
    "guidance": {"guidance_scale": 1.5},
    "hidden-states": {"output_hidden_states": True},
}
ONE_AT_A_TIME = {
    "assisted": lambda: {"assistant_model": gpt2(seed=1, std=0.19)},
    "patched-assistant": lambda: {"assistant_model": patch(gpt2(seed=1, std=0.19))},
    # Releases before 5.16 look for an end in every draft.
    "prompt-lookup": lambda: {"prompt_lookup_num_tokens": 3, "eos_token_id": 7},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gaps", GAPS)
def test_66_generate_goes_on_after_the_pads(gaps, mode):
    """As stock does, without computing any other pad."""
    ids, mask = GAPS[gaps]
    model, results = patch(gpt2()), []
    seen = tokens_seen(model)
    for m in (model, gpt2()):
        torch.manual_seed(3)
        results.append(generate(m, ids, mask, 6, **MODES[mode]))
    if mode == "beams":
        assert torch.equal(*(result.sequences for result in results))
        torch.testing.assert_close(*(result.sequences_scores for result in results))
    else:
        assert_same_tokens(*results)
    if mode in ("greedy", "without-a-cache", "dynamic-cache", "hidden-states"):
        assert seen[0] == (1, {"right": 17 + 2, "holes": 10 + 5}[gaps])


@pytest.mark.parametrize("mode", ONE_AT_A_TIME)
@pytest.mark.parametrize("gaps", GAPS)
def test_66_drafts_go_on_after_the_pads(gaps, mode):
    ids, mask = GAPS[gaps]
    for row in range(2):
        inputs = ids[row : row + 1], mask[row : row + 1]
        results = [
            generate(m, *inputs, 8, **ONE_AT_A_TIME[mode]()) for m in (patch(gpt2()), gpt2())
        ]
        assert_same_tokens(*results)


@pytest.mark.parametrize("gaps", GAPS)
def test_66_embeddings_go_on_after_the_pads(gaps):
    ids, mask = GAPS[gaps]
    model, results = patch(gpt2()), []
    for m in (model, gpt2()):
        embeds = m.get_input_embeddings()(ids)
        results.append(generate(m, None, mask, 6, inputs_embeds=embeds))
    assert_same_tokens(*results)


def test_a_forward_beside_a_generation_is_none_of_its_business():
    """In another thread, and within: each call decides for itself."""
    model = patch(gpt2())
    inputs = {"attention_mask": RIGHT, "position_ids": positions_of(RIGHT)}

    @torch.no_grad()
    def forward(m=model):
        return m(RIGHT_IDS, **inputs, use_cache=False).logits[:, -1]

    expected, within = forward(gpt2()), []

    def look(ids, scores):
        within.append(forward())
        return scores

    with ThreadPoolExecutor(2) as threads:
        beside = threads.submit(lambda: [forward() for _ in range(40)])
        result = generate(model, RIGHT_IDS, RIGHT, 12, logits_processor=[look])
        for logits in [*within, *beside.result()]:
            torch.testing.assert_close(logits, expected, atol=2e-4, rtol=2e-4)
    assert_same_tokens(result, generate(gpt2(), RIGHT_IDS, RIGHT, 12))


@pytest.mark.parametrize("cache", [None, "dynamic"])
def test_chunks_of_a_prompt_are_packed_before_each_row_has_begun(cache, monkeypatch):
    packed = []
    original = plans.packing_of

    def watch(*args, **kwargs):
        packing, pads = original(*args, **kwargs)
        packed.append(None if packing is None else len(packing.slots))
        return packing, pads

    monkeypatch.setattr(plans, "packing_of", watch)
    more = {} if cache is None else {"cache_implementation": cache}
    ours = generate(patch(gpt2()), IDS, LEFT, 6, prefill_chunk_size=3, **more)
    assert_same_tokens(ours, generate(gpt2(), IDS, LEFT, 6))
    assert packed[:3] == [3, 5, None]  # the last chunk has no pads


class OuterConfig(PreTrainedConfig):
    model_type = "outer_of_a_test"
    vocab_size = VOCAB
    num_hidden_layers = num_attention_heads = 2
    hidden_size = 32
    is_encoder_decoder = False


class Outer(PreTrainedModel, GenerationMixin):
    """A model of somebody else, with a generate of its own, around a GPT-2."""

    config_class = OuterConfig

    def __init__(self, config):
        super().__init__(config)
        self.language = gpt2()

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        use_cache=None,
        **more,
    ):
        inputs = {"position_ids": position_ids, CACHE: more.get(CACHE)}
        return self.language(
            input_ids, attention_mask=attention_mask, use_cache=use_cache, **inputs
        )


def test_a_generator_of_another_kind_goes_on_after_the_pads_of_a_right_padded_batch():
    model = Outer(OuterConfig()).eval()
    expected = generate(model, IDS, RIGHT, 6)
    assert_same_tokens(expected, generate(gpt2(), IDS, RIGHT, 6))
    assert_same_tokens(generate(patch(model), IDS, RIGHT, 6), expected)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, "float16"], ids=str)
def test_a_cache_of_anything_but_floats_is_refused(dtype):
    model = gpt2()
    with pytest.raises(ValueError, match="cache_dtype must be None, torch.float16"):
        patch(model, cache_dtype=dtype)
    assert patch_of(GPT2, model.transformer) is None
