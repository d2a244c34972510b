"""``forward`` of a patched ``GPT2Model``: decides what all layers see, remembers what ran."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention, GPT2Block, GPT2Model

from ..attention.cross import MaskedGPT2CrossAttention, cross_attention_follows
from ..attention.gpt2 import MaskedGPT2Attention
from ..instance.forward_slot import ForwardOverride, forward_slot
from ..instance.neighbours import attentions_of, blocks_of
from ..levels import Levels
from ..trace.last_run import LastRun
from .cache_argument import OURS, THEIRS, ours, theirs
from .packed_pass import run_packed
from .plan import STOCK, AttentionPlan, LeftToStock, make_plan
from .positions import count_real_tokens, pads_would_count
from .visibility import on_host

__all__ = ["CLASSES", "PatchedForward", "patch_of", "require_our_layers"]

CLASSES = {"attn": MaskedGPT2Attention, "crossattention": MaskedGPT2CrossAttention}


class PatchedForward(ForwardOverride[GPT2Model]):
    """The callable that stands in for ``forward``; it holds what ``unpatch`` needs.

    Args:
        model: the model whose ``forward`` it is.
        originals: each block with its attention modules, by the names of their attributes.
        previous: what was set as ``forward`` on the instance before, or None.
        levels: see ``patch``.
    """

    def __init__(
        self,
        model: GPT2Model,
        originals: Sequence[tuple[GPT2Block, Mapping[str, GPT2Attention]]],
        previous: Any,
        levels: Levels,
    ) -> None:
        super().__init__(model, previous)
        self.originals = originals
        self.levels = levels
        self.last: LastRun | None = None
        self.prompt: LastRun | None = None  # the last of several tokens
        self.warned: set[str] = set()
        parameters = inspect.signature(GPT2Model.forward).parameters.values()
        names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
        self.names = [OURS if name == THEIRS else name for name in names]

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles take the patch with them, not the memory of its last run."""
        return {**super().__getstate__(), "last": None, "prompt": None, "warned": set()}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        named = dict(zip(self.names, args, strict=False))
        kwargs = ours(kwargs, "GPT2Model.forward")
        if len(named) < len(args) or named.keys() & kwargs.keys():
            return self._stock(*args, **kwargs)  # raises TypeError
        arguments = {**named, **kwargs}
        if self.levels.positions_from_mask:
            arguments["position_ids"] = count_real_tokens(arguments)
        else:
            self._warn_of_positions(arguments)
        plan = self._plan(arguments)
        if plan is None:
            return self._stock(**arguments)
        require_our_layers(self.model)
        self._warn_of_padding(arguments)
        return self._run(plan, arguments)

    def paths(self) -> dict[int, str]:
        """Number of the layer to the path that it took last."""
        if self.last is None:
            return {}
        if self.last.why is not None:
            return dict.fromkeys(range(len(self.model.h)), STOCK)
        return dict(sorted(self.last.paths.items()))

    def _plan(self, arguments: dict[str, Any]) -> AttentionPlan | None:
        try:
            return make_plan(self.model, arguments, self.levels, previous=self.previous)
        except LeftToStock as reason:
            self._remember(LastRun.left_to_stock(arguments, str(reason), reason.pads))
            self._warn_of_stock(str(reason))
            return None

    def _run(self, plan: AttentionPlan, arguments: dict[str, Any]) -> Any:
        last = self._remember(LastRun.planned(arguments, plan))
        # A 4-D mask is passed on untouched, so no layer and no mask function expands anything.
        arguments["attention_mask"] = torch.empty(0, 0, 0, 0)
        if plan.encoder is not None:
            arguments["encoder_attention_mask"] = arguments["attention_mask"]
        arguments["masked_attn_plan"] = plan
        if plan.packing is None:
            out = self._stock(**arguments)
        else:
            out = run_packed(self._stock, arguments, plan.packing, self.model.config)
        last.look_at(arguments.get("past_key_values"), out)
        for reason in plan.reasons.values():
            self._warn_of_stock(reason)
        return out

    def _remember(self, run: LastRun) -> LastRun:
        self.last = run
        if run.queries != 1:
            self.prompt = run
        return run

    def _stock(self, *args: Any, **kwargs: Any) -> Any:
        with cross_attention_follows(kwargs.get("masked_attn_plan"), self.model):
            return self.beneath("forward")(*args, **theirs(kwargs))

    def _warn_of_stock(self, reason: str) -> None:
        """Once for each kind of reason, whatever its sizes: who wants speed should know."""
        kind = "".join(letter for letter in reason if not letter.isdigit())
        if kind in self.warned or torch.compiler.is_compiling():
            return
        self.warned.add(kind)
        warnings.warn(f"masked_attn: stock attention runs: {reason}", stacklevel=5)

    def _warn_of_positions(self, arguments: dict[str, Any]) -> None:
        """Once: the same text then has another result in another batch."""
        if "positions" in self.warned or not pads_would_count(arguments):
            return
        self.warned.add("positions")
        warnings.warn(
            "masked_attn: without position_ids the pads before a token are counted, so what a row "
            "gives depends on its padding; patch with positions_from_mask=True to count tokens",
            stacklevel=5,
        )

    def _warn_of_padding(self, arguments: dict[str, Any]) -> None:
        """Without a mask stock code looks for pad tokens at every step: the prompt is enough.

        Only where looking does not wait for a device.
        """
        ids, cache = arguments.get("input_ids"), arguments.get("past_key_values")
        if ids is None or arguments.get("attention_mask") is not None or not on_host(ids):
            return
        if cache is None or not cache.get_seq_length():
            self.model.warn_if_padding_and_no_attention_mask(ids, None)


def require_our_layers(transformer: GPT2Model) -> None:
    """Refuse a model whose attention modules were replaced after the patch.

    Raises:
        RuntimeError: says so.
    """
    for block in transformer.h:
        for name, module in attentions_of(block).items():
            if not isinstance(module, CLASSES[name]):
                raise RuntimeError(
                    "attention modules were replaced after patch; unpatch, then patch again"
                )


def patch_of(transformer: GPT2Model) -> PatchedForward | None:
    """The patch of this model, also beneath a hook of accelerate; None without one."""
    forward = transformer.__dict__.get(forward_slot(transformer))
    if isinstance(forward, PatchedForward):
        return forward
    if any(
        isinstance(getattr(block, "attn", None), MaskedGPT2Attention)
        for block in blocks_of(transformer)
    ):
        raise RuntimeError("forward of the model was wrapped or lost after patch; undo that first")
    return None
