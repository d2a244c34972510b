"""When ``generate`` leaves out pads: chunks, threads, generators that tell nobody."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

pytest.importorskip("transformers")

from integrations.models import CACHE, VOCAB, generate, gpt2, prompts
from integrations.tokens import assert_same_tokens
from transformers import (
    GenerationConfig,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)

from masked_attn.integrations import patch
from masked_attn.integrations import plan as plans
from masked_attn.integrations.forward import patch_of

pytestmark = pytest.mark.integration

IDS, LEFT = prompts([5, 9, 3])
_, RIGHT = prompts([5, 9, 3], side="right")


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


def test_generations_of_many_threads_are_all_known():
    forward = patch_of(patch(gpt2()).transformer)
    configs = [GenerationConfig() for _ in range(4000)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(forward.generate_begins, configs))
    known = {id(running()) for running in forward.generations}
    assert known == set(map(id, configs))
    del configs
    assert not forward._generates() and not forward.generations


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, "float16"], ids=str)
def test_a_cache_of_anything_but_floats_is_refused(dtype):
    model = gpt2()
    with pytest.raises(ValueError, match="cache_dtype must be None, torch.float16"):
        patch(model, cache_dtype=dtype)
    assert patch_of(model.transformer) is None
