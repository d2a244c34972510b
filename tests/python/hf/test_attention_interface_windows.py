"""attn_implementation="masked_attn" with sliding windows: the operator gets key mask and window."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers

pytest.importorskip("transformers")

from hf.models import PAD, fill, prompts
from hf.test_attention_interface import SIZES
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import DynamicCache

from masked_attn.hf import KVCache
from masked_attn.hf.attention import paths
from masked_attn.hf.attention.window_mask import WindowMask

pytestmark = pytest.mark.integration

WINDOW = 4
LENGTHS = [5, 14, 3]
CLOSE = {"atol": 2e-4, "rtol": 1e-4}
MIXED = {"layer_types": ["full_attention", "sliding_attention"]}
ENCODER = {
    **{n: size for n, size in SIZES.items() if n not in ("num_key_value_heads", "head_dim")},
    "layer_types": ["full_attention", "sliding_attention"],
    "cls_token_id": 1,
    "sep_token_id": 2,
}
GEMMA = {"sliding_window": WINDOW, "query_pre_attn_scalar": 8, **MIXED}
# Name of the config, then of the model, and what its config says of windows.
DECODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mistral": ("MistralConfig", "MistralForCausalLM", {}),
    "ministral": ("MinistralConfig", "MinistralForCausalLM", MIXED),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", {"num_local_experts": 2}),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {"original_max_position_embeddings": 64}),
    "starcoder2": ("Starcoder2Config", "Starcoder2ForCausalLM", {}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {"use_sliding_window": True, **MIXED}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {"use_sliding_window": True, **MIXED}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {"attn_logit_softcapping": None, **GEMMA}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", GEMMA),
    "cohere2": ("Cohere2Config", "Cohere2ForCausalLM", MIXED),
    "olmo3": ("Olmo3Config", "Olmo3ForCausalLM", MIXED),
}
# In every layer, not in every second one.
ALL_LAYERS = ("mistral", "mixtral", "phi3", "starcoder2")


def decoder(name: str, implementation: str, window: int = WINDOW) -> Any:
    config_name, model_name, settings = DECODERS[name]
    if not hasattr(transformers, model_name):
        pytest.skip(f"this transformers has no {model_name}")
    config_class = getattr(transformers, config_name)
    try:
        config_class()
    except StrictDataclassFieldValidationError as error:
        pytest.skip(f"this transformers refuses the defaults of its own {config_name}: {error}")
    settings = {**SIZES, **copy.deepcopy(settings), "sliding_window": window}
    config = config_class(**settings)
    return built(getattr(transformers, model_name), config, implementation)


def modernbert(implementation: str, window: int = 2 * WINDOW) -> Any:
    config = transformers.ModernBertConfig(**copy.deepcopy(ENCODER), local_attention=window)
    return built(transformers.ModernBertModel, config, implementation)


def built(model_class: Any, config: Any, implementation: str) -> Any:
    config._attn_implementation = implementation
    model = model_class(config).eval()
    fill(model, seed=1, std=0.3)
    return model


@pytest.fixture
def asked(monkeypatch):
    """What ``masked_attention`` is asked for, call by call."""
    calls: list[dict[str, Any]] = []

    def attend(*args, **masks):
        calls.append(masks)
        return original(*args, **masks)

    original = paths.masked_attention
    monkeypatch.setattr(paths, "masked_attention", attend)
    return calls


def windows(calls: list[dict[str, Any]]) -> list[int | None]:
    """Of each call; none may have a mask that is written out."""
    assert all(call["attn_mask"] is None for call in calls), calls
    return [call["window"] for call in calls]


def of_layers(name: str) -> list[int | None]:
    return [WINDOW if name in ALL_LAYERS else None, WINDOW]


@torch.no_grad()
def logits(model: Any, ids: torch.Tensor, mask: torch.Tensor | None, **more: Any) -> torch.Tensor:
    return model(ids, attention_mask=mask, **more)[0]


@pytest.mark.parametrize("side", ["left", "right", "holes", "none"])
@pytest.mark.parametrize("name", DECODERS)
def test_a_causal_window_reaches_the_operator_as_such(name, side, asked):
    ids, mask = prompts([14] * 3 if side == "none" else LENGTHS, side=side.replace("holes", "left"))
    if side == "holes":
        mask[1, 5:8] = 0
    given = None if side == "none" else mask
    # The keyword of the layers does not count beside their mask, and some layers have none.
    ours = logits(decoder(name, "masked_attn"), ids, given)
    found = windows(asked)
    assert [w for w in found if w is not None] == [w for w in of_layers(name) if w is not None]
    assert all(call["causal"] for call in asked)
    real = mask.bool()
    stock = logits(decoder(name, "eager"), ids, given)
    torch.testing.assert_close(ours[real], stock[real], **CLOSE)
    wide = logits(decoder(name, "eager", window=32), ids, given)
    assert not torch.allclose(stock[real], wide[real], **CLOSE), "the window has no effect"


def test_a_layer_that_does_not_pass_its_window_on(asked, monkeypatch):
    """The mask says it."""
    from masked_attn.hf.attention import interface

    def without(*args, sliding_window=None, **more):
        return interface.attention_forward(*args, **more)

    table = transformers.AttentionInterface._global_mapping
    monkeypatch.setitem(table, "masked_attn", without)
    ids, mask = prompts(LENGTHS)
    ours = logits(decoder("mistral", "masked_attn"), ids, mask)
    assert windows(asked) == [WINDOW, WINDOW]
    stock = logits(decoder("mistral", "eager"), ids, mask)
    torch.testing.assert_close(ours[mask.bool()], stock[mask.bool()], **CLOSE)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("name", ["mistral", "qwen2", "gemma3"])
def test_a_window_wider_than_the_prompt_costs_nothing(name, padded, asked):
    ids, mask = prompts(LENGTHS if padded else [14] * 3)
    given = mask if padded else None
    ours = logits(decoder(name, "masked_attn", window=32), ids, given)
    for call in asked:
        assert call["attn_mask"] is None
        assert call["window"] in (None, 32)
        assert (call["key_mask"] is None) == (not padded)
    stock = logits(decoder(name, "eager", window=32), ids, given)
    torch.testing.assert_close(ours[mask.bool()], stock[mask.bool()], **CLOSE)


CACHES = {
    "sliding": lambda model: DynamicCache(config=model.config),
    "all keys": lambda model: DynamicCache(),
    "KVCache": lambda model: KVCache(),
}


@pytest.mark.parametrize("chunks", [(14, 1, 1), (5, 6, 3, 1, 1), (1, 1, 14)], ids=str)
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", ["mistral", "qwen2", "gemma3", "phi3"])
def test_chunks_and_steps(name, cache, padded, chunks, asked):
    ids, mask = prompts([16, 9, 11] if padded else [16] * 3)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    results = []
    for implementation in ("masked_attn", "eager"):
        model = decoder(name, implementation)
        past, start, parts = CACHES[cache](model), 0, []
        for length in chunks:
            now = slice(start, start + length)
            given = mask[:, : now.stop] if padded else None
            more = {"position_ids": positions[:, now]} if padded else {}
            parts.append(logits(model, ids[:, now], given, past_key_values=past, **more))
            start += length
        results.append(torch.cat(parts, dim=1)[mask.bool()[:, :start]])
    torch.testing.assert_close(*results, **CLOSE)
    windows(asked)  # none is written out
    assert any(call["window"] == WINDOW for call in asked)


@pytest.mark.parametrize("name", ["mistral", "gemma3", "qwen2"])
def test_generate_makes_stocks_tokens(name, asked):
    ids, mask = prompts(LENGTHS)
    made = [
        decoder(name, implementation).generate(
            ids, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=PAD
        )
        for implementation in ("masked_attn", "eager")
    ]
    assert torch.equal(*made)
    assert WINDOW in windows(asked)


@pytest.mark.parametrize("side", ["left", "right", "holes", "none"])
def test_an_encoders_window_is_both_ways(side, asked):
    ids, mask = prompts([14] * 3 if side == "none" else LENGTHS, side=side.replace("holes", "left"))
    if side == "holes":
        mask[1, 5:8] = 0
    given = None if side == "none" else mask
    ours = logits(modernbert("masked_attn"), ids, given)
    assert windows(asked) == [None, WINDOW + 1]
    assert [call["causal"] for call in asked] == [False, False]
    stock = logits(modernbert("eager"), ids, given)
    torch.testing.assert_close(ours[mask.bool()], stock[mask.bool()], **CLOSE)


@pytest.mark.parametrize("local", [26, 28, 30, 64])
def test_an_encoders_window_about_as_wide_as_the_row(local, asked):
    """It ends with the last key, or behind it."""
    for lengths in (LENGTHS, [14] * 3):
        ids, mask = prompts(lengths, side="right")
        for given in (mask, None):
            real = mask.bool() if given is not None else torch.ones_like(mask).bool()
            ours = logits(modernbert("masked_attn", local), ids, given)
            stock = logits(modernbert("eager", local), ids, given)
            torch.testing.assert_close(ours[real], stock[real], **CLOSE)


def test_a_4d_mask_of_the_caller_says_all(asked):
    """Layers pass their window beside it."""
    ids, mask = prompts(LENGTHS)
    dense = torch.ones(14, 14, dtype=torch.bool).tril() & mask.bool()[:, None, None]
    dense |= torch.eye(14, dtype=torch.bool)
    ours = logits(decoder("mistral", "masked_attn"), ids, dense)
    assert [call["window"] for call in asked] == [None, None]
    float_mask = torch.zeros(dense.shape).masked_fill(~dense, torch.finfo(torch.float32).min)
    stock = logits(decoder("mistral", "eager"), ids, float_mask)
    torch.testing.assert_close(ours[mask.bool()], stock[mask.bool()], **CLOSE)


def test_a_mask_that_was_made_before(asked):
    """As ``generate`` does for some caches: the model hands it on."""
    from transformers.masking_utils import create_sliding_window_causal_mask

    ids, mask = prompts(LENGTHS)
    model = decoder("mistral", "masked_attn")
    embeds = model.get_input_embeddings()(ids)
    made = create_sliding_window_causal_mask(model.config, embeds, mask, past_key_values=None)
    assert type(made) is WindowMask
    ours = logits(model, ids, made)
    assert windows(asked) == [WINDOW, WINDOW]
    stock = logits(decoder("mistral", "eager"), ids, mask)
    torch.testing.assert_close(ours[mask.bool()], stock[mask.bool()], **CLOSE)


def test_a_hook_that_changes_the_mask_has_effect(asked):
    """What it wrote counts, in the layers that follow too."""
    ids, mask = prompts([14] * 3)
    results = []
    for implementation in ("masked_attn", "sdpa"):
        model = decoder("mistral", implementation)

        def hide_a_key(module, args, kwargs):
            kwargs["attention_mask"][..., 3] = False
            return args, kwargs

        attention = model.model.layers[0].self_attn
        attention.register_forward_pre_hook(hide_a_key, with_kwargs=True)
        results.append(logits(model, ids, mask)[:, 4:])
    torch.testing.assert_close(*results, **CLOSE)
    assert all(call["attn_mask"] is not None for call in asked)


@pytest.mark.parametrize("checkpointing", [None, True, False], ids=["no", "reentrant", "other"])
@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_gradients_equal_stock(name, checkpointing):
    ids, mask = prompts(LENGTHS)
    grads = []
    for implementation in ("sdpa", "masked_attn"):
        model = decoder(name, implementation).train()
        if checkpointing is not None:
            model.gradient_checkpointing_enable({"use_reentrant": checkpointing})
        labels = ids.masked_fill(mask == 0, -100)
        model(ids, attention_mask=mask, labels=labels, use_cache=False).loss.backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(grads[1], grads[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("part", ["the model", "its layers"])
def test_compiled(part):
    ids, mask = prompts(LENGTHS)
    torch._dynamo.reset()
    model = decoder("mistral", "masked_attn")
    if part == "the model":
        model.compile(backend="aot_eager", fullgraph=True)
    else:
        for layer in model.model.layers:
            layer.compile(backend="aot_eager")
    ours = logits(model, ids, mask, use_cache=False)
    stock = logits(decoder("mistral", "eager"), ids, mask)
    torch.testing.assert_close(ours[mask.bool()], stock[mask.bool()], **CLOSE)
    torch._dynamo.reset()


def test_layers_on_another_device_get_it_unexpanded(asked):
    accelerate = pytest.importorskip("accelerate")
    ids, mask = prompts(LENGTHS)
    model = decoder("mistral", "masked_attn")
    accelerate.cpu_offload(model, torch.device("cpu"))
    ours = logits(model, ids, mask)
    assert windows(asked) == [WINDOW, WINDOW]
    stock = logits(decoder("mistral", "eager"), ids, mask)
    torch.testing.assert_close(ours[mask.bool()], stock[mask.bool()], **CLOSE)
