"""A small config of every model type, from the names that configs have in common."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

VOCAB = 99
PAD, BOS, EOS = 0, 1, 2
LAYERS = 2

# The first that matches the whole name of an integer counts.
INTEGERS = [
    (r".*(conv|feat).*_layers", 99),
    (r".*vocab_size.*", VOCAB),
    (r"pad_token_id|padding_idx", PAD),
    (r"(bos|decoder_start|cls|sot)_token_id", BOS),
    (r"(eos|sep)_token_id", EOS),
    (r"num_key_value_heads|num_kv_heads|num_global_key_value_heads|multi_query_groups", 2),
    (r".*(attention_heads|num_heads|n_heads?|_heads|attn_heads)", 4),
    (r"rotary_dim", 8),
    (r"head_dim|.*_head_dim|d_kv|attention_head_size", 16),
    (r"(q|kv|o)_lora_rank", 16),
    (r".*(num_hidden_layers|num_layers|n_layers?|_layers|depth|num_blocks)", LAYERS),
    (r".*(intermediate_size|ffn_dim|d_ff|n_inner|ffn_hidden_size|mlp_dim)", 48),
    (r".*(num_experts|n_routed_experts|num_local_experts|moe_num_experts|num_moe_experts)", 4),
    (r".*(experts_per_tok|moe_topk|moe_k|top_k_experts)", 2),
    (r"n_group|topk_group|num_expert_group", 1),
    (r".*(max_position_embeddings|n_positions|max_seq_len|max_sequence_length|n_ctx)", 64),
    (r".*sliding_window|attention_window_size|local_attention|attention_chunk_size", 4),
    (r"image_size|img_size", 32),
    (r"(hidden|embedding|embed)_size|d_model|n_embd|embed_dim|hidden_dim|dim|.*_embed_dim", 64),
    (r".*_hidden_size|model_dim|projection_dim|hidden_size_.*", 64),
    (r"mamba_d_state|state_size|ssm_state_size", 8),
    (r"mamba_n_groups|n_groups", 1),
]
# Keeps what the names share (all layers in one list of kinds) true after shrinking.
KINDS_OF_LAYERS = re.compile(
    r"(layer|block|mlp|attention|attn)_?(layer)?_?types?|layers_block_type"
)


# Where shrinking all breaks what a config or its model relies on: as many key heads as heads, then
# only what is counted and not measured.
LEVELS = (
    re.compile(""),
    re.compile(r"num_key_value_heads|num_kv_heads|head_dim|rope_.*"),
    re.compile(
        r".*(?<!max_position_embeddings)(?<!layers)(?<!layer)(?<!vocab_size)(?<!_id)(?<!experts)"
    ),
)


def small_configs(model_type: str) -> Iterator[PreTrainedConfig]:
    """The config of ``model_type`` with everything small that can be, then with less and less."""
    for kept in LEVELS:
        try:
            yield _small(CONFIG_MAPPING[model_type], kept)
        except Exception as error:
            if kept is LEVELS[-1]:
                raise error


def _small(config_class: type[PreTrainedConfig], kept: re.Pattern[str]) -> PreTrainedConfig:
    parts = {
        name: _small(part, kept)
        for name, part in (getattr(config_class, "sub_configs", None) or {}).items()
        if part is not AutoConfig
    }
    whole = config_class(**{name: part.to_dict() for name, part in parts.items()})
    settings: dict[str, Any] = {name: part.to_dict() for name, part in parts.items()}
    for name, value in vars(whole).items():
        small = _small_value(name, value)
        if kept.fullmatch(name) and small is not None:
            small = 4 if (kept is LEVELS[1] and "kv" in name) or "key_value" in name else None
        if small is not None:
            settings[name] = small
    for name, part in (getattr(config_class, "sub_configs", None) or {}).items():
        inner = getattr(whole, name, None)
        if part is AutoConfig and isinstance(inner, PreTrainedConfig):
            settings[name] = _small(type(inner), kept).to_dict()
    _agree_on_layers(settings, whole)
    try:
        config = config_class(**settings)
    except (TypeError, ValueError, KeyError):
        # A config that checks its lengths against each other: leave its own layers.
        config = config_class(**{k: v for k, v in settings.items() if not k.endswith("layers")})
    accepted = inspect.signature(config_class.__init__).parameters
    if "initializer_range" in accepted or hasattr(config, "initializer_range"):
        config.initializer_range = 0.1
    return config


def _small_value(name: str, value: Any) -> Any:
    name = name.removeprefix("_")
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        for pattern, small in INTEGERS:
            if re.fullmatch(pattern, name):
                return min(value, small) if value > 0 else value
        if re.fullmatch(r".*token_(id|index)", name) and value >= VOCAB:
            return VOCAB - 1 - sum(map(ord, name)) % 40
    if isinstance(value, list) and re.fullmatch(r"eos_token_id", name):
        return EOS
    if isinstance(value, dict) and isinstance(value.get("mrope_section"), list):
        return {**value, "mrope_section": [4, 2, 2]}  # half of head_dim together
    return None


def _agree_on_layers(settings: dict[str, Any], whole: PreTrainedConfig) -> None:
    """One layer of each kind: where layers differ, the list of kinds and the count agree."""
    lists = {
        name: value
        for name, value in vars(whole).items()
        if isinstance(value, list) and value and KINDS_OF_LAYERS.fullmatch(name.removeprefix("_"))
    }
    lists = {name: value for name, value in lists.items() if isinstance(value[0], str)}
    if not lists:
        return
    length = len(next(iter(lists.values())))
    columns = list(zip(*(v for v in lists.values() if len(v) == length), strict=True))
    chosen = sorted({column: i for i, column in reversed(list(enumerate(columns)))}.values())
    if len(chosen) < LAYERS:
        chosen = list(range(min(LAYERS, length)))
    for name, value in lists.items():
        if len(value) == length:
            settings[name.removeprefix("_")] = [value[i] for i in chosen]
    for name in ("num_hidden_layers", "num_layers", "n_layer"):
        if name in settings:
            settings[name] = len(chosen)
