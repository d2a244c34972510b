"""``forward`` of a patched backbone: decides what all layers see, remembers what ran."""

from __future__ import annotations

import inspect
import warnings
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..attention.planned import layers_follow
from ..families.family import ModelFamily
from ..instance.attention_config import AttentionConfig
from ..instance.forward_slot import ForwardOverride, forward_slot
from ..instance.neighbours import attentions_of, inner_layer
from ..levels import Levels
from ..trace.last_run import LastRun
from ..trace.trace import STOCK
from .cache_argument import OURS, THEIRS, ours, theirs
from .forward_call import ForwardCall
from .plan import LeftToStock, Plan, make_plan
from .positions import count_real_tokens, pads_would_count
from .running import cache_of_forward, run_planned
from .visibility import on_host

__all__ = ["PatchedForward", "patch_of", "require_our_layers"]


class PatchedForward(ForwardOverride[Any]):
    """The callable that stands in for ``forward``.

    Args:
        model: the model whose ``forward`` it is.
        previous: what was set as ``forward`` on the instance before, or None.
        family: of the model.
        levels: see ``patch``.
    """

    def __init__(self, model: Any, previous: Any, family: ModelFamily, levels: Levels) -> None:
        super().__init__(model, previous)
        self.family = family
        self.levels = levels
        self.last: LastRun | None = None
        self.prompt: LastRun | None = None  # the last of several tokens
        self.warned: set[str] = set()
        parameters = inspect.signature(family.backbone_class.forward).parameters.values()
        names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
        self.names = [OURS if name == THEIRS else name for name in names]

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles take the patch with them, not the memory of its last run."""
        return {**super().__getstate__(), "last": None, "prompt": None, "warned": set()}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        named = dict(zip(self.names, args, strict=False))
        kwargs = ours(kwargs, f"{self.family.backbone}.forward")
        if len(named) < len(args) or named.keys() & kwargs.keys():
            return self._stock(*args, **kwargs)  # raises TypeError
        model: Any = self.model
        call = ForwardCall.of({**named, **kwargs})
        if self.levels.positions_from_mask:
            positions = count_real_tokens(self.family, model, call)
            if positions is not call.positions:
                call = call.replaced(position_ids=positions)
        else:
            self._warn_of_positions(call)
        plan = self._plan(call)
        if plan is None:
            with layers_follow(None):  # this may run inside another model's forward
                return self._stock(**call.arguments)
        require_our_layers(self.family, model)
        self._warn_of_padding(call)
        return self._run(plan, call)

    def paths(self) -> dict[int, str]:
        """Number of the layer to the path that it took last."""
        if self.last is None:
            return {}
        if self.last.why is not None:
            return dict.fromkeys(range(len(self.family.layers_of(self.model))), STOCK)
        return dict(sorted(self.last.trace.paths.items()))

    def _plan(self, call: ForwardCall) -> Plan | None:
        try:
            plan = make_plan(self.family, self.model, call, self.levels, previous=self.previous)
        except LeftToStock as reason:
            self._remember(LastRun.left_to_stock(call, str(reason), reason.pads))
            self._warn_of_stock(str(reason))
            return None
        cache = cache_of_forward(self.family, self.model, call)
        return plan if cache is plan.cache else replace(plan, cache=cache)

    def _run(self, plan: Plan, call: ForwardCall) -> Any:
        last = self._remember(LastRun.planned(call, plan))
        by_keyword = self.family.keywords and plan.encoder is None
        with nullcontext() if by_keyword else layers_follow(plan):
            out = run_planned(self._stock, self.family, self.model, call, plan)
        last.look_at(call.cache, out)
        for reason in plan.trace.reasons.values():
            self._warn_of_stock(reason)
        return out

    def _remember(self, run: LastRun) -> LastRun:
        self.last = run
        if run.queries != 1:
            self.prompt = run
        return run

    def _stock(self, *args: Any, **kwargs: Any) -> Any:
        return self.beneath("forward")(*args, **theirs(kwargs))

    def _warn_of_stock(self, reason: str) -> None:
        """Once for each kind of reason, whatever its sizes: who wants speed should know."""
        kind = "".join(letter for letter in reason if not letter.isdigit())
        if kind in self.warned or torch.compiler.is_compiling():
            return
        self.warned.add(kind)
        warnings.warn(f"masked_attn: stock attention runs: {reason}", stacklevel=5)

    def _warn_of_positions(self, call: ForwardCall) -> None:
        """Once: the same text then has another result in another batch."""
        if "positions" in self.warned or not pads_would_count(self.family, call):
            return
        self.warned.add("positions")
        warnings.warn(
            "masked_attn: without position_ids the pads before a token are counted, so what a row "
            "gives depends on its padding; patch with positions_from_mask=True to count tokens",
            stacklevel=5,
        )

    def _warn_of_padding(self, call: ForwardCall) -> None:
        """Without a mask stock code looks for pad tokens at every step: the prompt is enough.

        Only where looking does not wait for a device.
        """
        if call.ids is None or call.mask is not None or not on_host(call.ids):
            return
        if call.cache is None or not call.cache.get_seq_length():
            self.model.warn_if_padding_and_no_attention_mask(call.ids, None)


def require_our_layers(family: ModelFamily, backbone: nn.Module) -> None:
    """Refuse a model whose attention modules were replaced after the patch.

    Raises:
        RuntimeError: says so.
    """
    for layer in family.layers_of(backbone):
        for module in attentions_of(family, layer).values():
            if type(module.__dict__.get("config")) is not AttentionConfig:
                raise RuntimeError(
                    "attention modules were replaced after patch; unpatch, then patch again"
                )


def patch_of(family: ModelFamily, backbone: nn.Module) -> PatchedForward | None:
    """The patch of this model, also beneath a hook of accelerate; None without one."""
    forward = backbone.__dict__.get(forward_slot(backbone))
    if isinstance(forward, PatchedForward):
        return forward
    for layer in family.layers_of(backbone):
        for module in attentions_of(family, inner_layer(family, layer)).values():
            if type(module.__dict__.get("config")) is AttentionConfig:
                raise RuntimeError(
                    "forward of the model was wrapped or lost after patch; undo that first"
                )
    return None
