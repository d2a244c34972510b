"""One model type with "masked_attn" and with stock eager: right, refused, wrong or not built."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from model_types.inputs import make_inputs, padding_mask
from model_types.shrink import small_configs
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.models.auto import modeling_auto

RIGHT, REFUSED, WRONG, NOT_BUILT = "right", "refused", "wrong", "not built"
# A config that only other types have as a part: no model of its own to build.
PART = "a part"
# Of the largest number of the output; both sides are float32.
TOLERANCE = 2e-3
# Parameters of a model that still counts as small.
LARGEST = 20_000_000

MAPPINGS = (
    "MODEL_MAPPING",
    "MODEL_FOR_CAUSAL_LM_MAPPING",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING",
)


@dataclass
class Verdict:
    """What one model type did.

    Attributes:
        model_type: its name in ``CONFIG_MAPPING``.
        verdict: one of the five words of this file.
        why: the message of what was raised, or the worst case.
        worst: the largest difference, in parts of the largest number.
        sees_padding: whether stock's result depends on the padding mask at all.
        on_interface: whether our attention function was called.
        told: the warnings of masked_attn.
    """

    model_type: str
    verdict: str
    why: str = ""
    worst: float = 0.0
    sees_padding: bool = False
    on_interface: bool = False
    told: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(model_type: str) -> Verdict:
    """Build ``model_type`` twice with equal weights and compare every case."""
    if not any(CONFIG_MAPPING[model_type] in mapping for mapping in _mappings()):
        return Verdict(model_type, PART)
    try:
        config, stock, expected = _stock(model_type)
    except Exception as error:
        return Verdict(model_type, NOT_BUILT, _line(error))
    usable = {case: out for case, out in expected.items() if out}
    if not usable:
        return Verdict(model_type, NOT_BUILT, "no comparable output")
    verdict = Verdict(model_type, RIGHT)
    if "left" in usable and "none" in usable:
        verdict.sees_padding = _difference(usable["left"], usable["none"]) > 10 * TOLERANCE
    with _Watch() as watch:
        try:
            ours = build(config, "masked_attn")
            ours.load_state_dict(stock.state_dict())
            for case, out in usable.items():
                difference = _difference(run(ours, case), out)
                if difference > verdict.worst:
                    verdict.worst, verdict.why = difference, case
        except Exception as error:
            verdict.verdict = REFUSED if "masked_attn" in str(error) else WRONG
            verdict.why = _line(error)
    verdict.on_interface, verdict.told = watch.called, watch.told
    if verdict.verdict == RIGHT and not verdict.worst <= TOLERANCE:
        verdict.verdict = WRONG
    return verdict


def _stock(model_type: str) -> tuple[PreTrainedConfig, nn.Module, dict[str, dict[str, Tensor]]]:
    """The smallest config that stock code runs, its model, and what it gives."""
    first: Exception | None = None
    for config in small_configs(model_type):
        try:
            model = build(config, "eager")
            return config, model, {case: run(model, case) for case in CASES}
        except Exception as error:
            first = first or error
    raise first or NotImplementedError("no config")


CASES = ("none", "left", "right", "alone", "grad", "steps")


def build(config: PreTrainedConfig, implementation: str) -> nn.Module:
    """The base model (or the first there is) with loud weights."""
    config = copy.deepcopy(config)
    config._attn_implementation = implementation
    model_class = _model_class(config)
    _refuse_large(model_class, config)
    _seed()
    model = model_class._from_config(config, attn_implementation=implementation).eval().float()
    _seed()
    with torch.no_grad():
        for module in model.modules():
            weight = getattr(module, "weight", None)
            if isinstance(module, nn.Embedding):
                weight.normal_()
            elif isinstance(weight, Tensor) and weight.ndim >= 2:
                weight.normal_(std=weight[0].numel() ** -0.5)
        for parameter in model.parameters():
            parameter.nan_to_num_(0.0, 0.0, 0.0)
    return model


def _refuse_large(model_class: Any, config: PreTrainedConfig) -> None:
    with torch.device("meta"):
        model = model_class._from_config(copy.deepcopy(config))
    parameters = sum(p.numel() for p in model.parameters())
    if parameters > LARGEST:
        raise NotImplementedError(f"{parameters} parameters after shrinking")


def _model_class(config: PreTrainedConfig) -> Any:
    found = next(m[type(config)] for m in _mappings() if type(config) in m)
    return found[0] if isinstance(found, (tuple, list)) else found


def _mappings() -> Iterator[Any]:
    for name in MAPPINGS:
        if hasattr(modeling_auto, name):
            yield getattr(modeling_auto, name)


def run(model: nn.Module, case: str) -> dict[str, Tensor]:
    """The outputs of one case, without what belongs to pads."""
    if case == "alone":
        inputs = {k: v[:1] for k, v in make_inputs(model, padding_mask("none")).items()}
        inputs = {k: v for k, v in inputs.items() if not k.endswith("attention_mask")}
        mask = padding_mask("none")[:1]
    else:
        mask = padding_mask(case if case in ("right", "none") else "left")
        inputs = make_inputs(model, mask)
        if case != "none" and not any(k.endswith("attention_mask") for k in inputs):
            return {}
    if case == "steps":
        return _steps(model, inputs, mask)
    _seed()
    with torch.set_grad_enabled(case == "grad"):
        return _real(model(**inputs), mask)


def _steps(model: nn.Module, inputs: dict[str, Any], mask: Tensor) -> dict[str, Tensor]:
    """Two tokens after a cached prompt, one by one."""
    if set(inputs) != {"input_ids", "attention_mask"} or not hasattr(model.config, "use_cache"):
        return {}
    outputs: dict[str, Tensor] = {}
    with torch.no_grad():
        _seed()
        cache = getattr(model(**inputs, use_cache=True), "past_key_values", None)
        if cache is None:
            return {}
        for step in range(2):
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            ids = inputs["input_ids"][:, step : step + 1]
            _seed()
            out = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
            outputs.update({f"{k}{step}": v for k, v in _real(out, mask[:, -1:]).items()})
    return outputs


def _real(output: Any, mask: Tensor) -> dict[str, Tensor]:
    """Float tensors of an output: of text, the rows of real tokens; poolers may read pads."""
    padded = not bool(mask.all())
    kept = {}
    for name, value in output.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        if value.ndim == 3 and value.shape[:2] == mask.shape:
            kept[name] = value.detach()[mask.bool()]
        elif not padded:
            kept[name] = value.detach()
    return kept


def _difference(ours: dict[str, Tensor], stock: dict[str, Tensor]) -> float:
    """The largest difference, each output in parts of its own largest number."""
    worst = 0.0
    for name, expected in stock.items():
        if name not in ours or ours[name].shape != expected.shape:
            return float("inf")
        if expected.numel() == 0:
            continue
        both = ours[name].isfinite() == expected.isfinite()
        if not both.all():
            return float("inf")
        scale = expected.nan_to_num(0.0, 0.0, 0.0).abs().max().clamp_min(1e-6)
        gap = (ours[name] - expected).nan_to_num(0.0, 0.0, 0.0).abs().max()
        worst = max(worst, float(gap / scale))
    return worst


def _seed() -> None:
    torch.manual_seed(11)
    random.seed(11)
    try:
        import numpy
    except ImportError:
        return
    numpy.random.seed(11)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"


class _Watch:
    """Whether our attention function ran, and what masked_attn warned of."""

    def __enter__(self) -> _Watch:
        import warnings

        from transformers import AttentionInterface

        self.called = False
        self._table = AttentionInterface._global_mapping
        self._original = self._table["masked_attn"]

        def attend(*args: Any, **kwargs: Any) -> Any:
            self.called = True
            return self._original(*args, **kwargs)

        self._table["masked_attn"] = attend
        self._warnings = warnings.catch_warnings(record=True)
        self._caught = self._warnings.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._table["masked_attn"] = self._original
        self._warnings.__exit__(*error)

    @property
    def told(self) -> str:
        texts = [str(w.message) for w in self._caught]
        return "; ".join(sorted({t for t in texts if "masked_attn" in t}))
