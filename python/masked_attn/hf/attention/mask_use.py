"""What the layers of a model do with the mask that transformers asks us for.

Layers on the attention interface hand it to our attention function, which reads any shape. Layers
with attention of their own add it to their scores, and some index it before they hand it on. The
source of the model's modules tells which, so nothing has to be listed by name.
"""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType

import torch
from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["MaskUse", "mask_use"]

INTERFACE = "ALL_ATTENTION_FUNCTIONS"
MASK_NAMES = {"attention_mask", "attn_mask", "causal_mask", "mask"}
# What attention of one's own is made of.
ATTENTION_CALLS = {"softmax", "Softmax", "scaled_dot_product_attention", "MultiheadAttention"}
# Asked of a mask, they tell that its rank or its dtype matters.
READ_OF_MASK = {"dtype", "shape", "size"}


class MaskUse(enum.Enum):
    """What the layers of one kind of model need."""

    HANDED_ON = "every layer hands the mask to the attention function as it is"
    MUST_SAY = "the same, but no one vouches for is_causal of the layers: no mask, no causality"
    READ = "a layer reads the mask or adds it to scores itself: it needs stock's own"
    NOT_ON_INTERFACE = "no layer asks the attention interface"


_known: dict[tuple[type, ...], MaskUse] = {}


# Its answer is one for a model, so a compiled graph takes it as it is.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def mask_use(config_class: type) -> MaskUse:
    """How the models that were loaded for ``config_class`` use their masks.

    Args:
        config_class: the class of the config that the mask function was given.

    Returns:
        ``READ`` when the source cannot be read: stock's own mask is right for any layer.
    """
    models = tuple(_models_of(config_class))  # there may be more of them than last time
    if models not in _known:
        _known[models] = _look(models)
    return _known[models]


def _look(models: tuple[type, ...]) -> MaskUse:
    modules = {model.__module__ for model in models}
    found = [_Layers(sys.modules[module]) for module in modules if module in sys.modules]
    if not found or any(not layers.readable for layers in found):
        return MaskUse.READ
    asks = any(layers.on_interface for layers in found)
    if not asks and any(layers.own for layers in found):
        return MaskUse.NOT_ON_INTERFACE
    if any(layers.own or layers.read for layers in found):
        return MaskUse.READ
    if not asks:  # what the layers are was not found: they may come from anywhere
        return MaskUse.READ
    # Stock reads is_causal of the layers under sdpa only.
    relied_on = all(getattr(model, "_supports_sdpa", False) for model in models)
    relied_on &= not any(layers.never_causal for layers in found)
    return MaskUse.HANDED_ON if relied_on else MaskUse.MUST_SAY


def _models_of(config_class: type) -> Iterator[type]:
    """Every loaded model class that is built from ``config_class`` or from a class below it."""
    waiting: list[type] = [PreTrainedModel]
    while waiting:
        model = waiting.pop()
        waiting.extend(model.__subclasses__())
        built_from = getattr(model, "config_class", None)
        if built_from in (None, PreTrainedConfig) or not isinstance(built_from, type):
            continue
        if issubclass(config_class, built_from):
            yield model


class _Layers:
    """The layers that a module defines or imports, sorted by what they do with a mask.

    Attributes:
        readable: whether the source was there.
        on_interface: whether a layer asks the attention interface.
        take: whether a layer is given a mask.
        own: whether a layer has attention of its own.
        read: whether a layer indexes a mask or calculates with it.
        never_causal: whether layers could be told that they are causal, and none is, though the
            model makes causal masks (UMT5 in transformers 5.16).
    """

    def __init__(self, module: ModuleType) -> None:
        self.readable = True
        self.on_interface = self.take = self.own = self.read = False
        for layer in list(vars(module).values()):
            if not inspect.isclass(layer) or layer.__module__.startswith("torch."):
                continue
            # Models and embeddings are given the mask of the caller, not ours.
            whole = issubclass(layer, PreTrainedModel) or "Embedding" in layer.__name__
            if issubclass(layer, torch.nn.Module) and not whole:
                self._add(layer)
        self.never_causal = _is_never_causal(_definitions(module.__name__).values())

    def _add(self, layer: type) -> None:
        definition = _definitions(layer.__module__).get(layer.__qualname__)
        if definition is None:
            self.readable = False
            return
        names = _names(definition)
        asks = INTERFACE in names
        self.on_interface |= asks
        for function, masks in _functions_with_mask(definition):
            adds, reads = _use_of_mask(function, masks)
            self.take = True
            # A second way to attend, beside the interface, runs under other names only (GPT-2).
            beside = asks and INTERFACE not in _names(function)
            self.read |= reads or (adds and not beside)
            self.own |= not asks and (adds or bool(names & ATTENTION_CALLS))


def _is_never_causal(definitions: Iterable[ast.ClassDef]) -> bool:
    nodes = [node for definition in definitions for node in ast.walk(definition)]
    told = any(isinstance(node, ast.keyword) and node.arg == "is_causal" for node in nodes)
    if told or not any(
        isinstance(node, ast.Name) and node.id == "create_causal_mask" for node in nodes
    ):
        return False
    return any(
        isinstance(node, ast.FunctionDef) and node.name == "__init__" and _may_be_causal(node.args)
        for node in nodes
    )


def _may_be_causal(arguments: ast.arguments) -> bool:
    """Whether the arguments of a layer have an ``is_causal``, which is False if left out."""
    given = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    defaults = {
        argument.arg: default for argument, default in zip(given, arguments.defaults, strict=True)
    }
    default = defaults.get("is_causal")
    return isinstance(default, ast.Constant) and default.value is False


@functools.cache
def _definitions(module: str) -> dict[str, ast.ClassDef]:
    """The classes at the top of a module; none when its source is not there."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError):
        return {}
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _names(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return found


def _functions_with_mask(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef, set[str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            masks = {argument.arg for argument in arguments} & MASK_NAMES
            if masks:
                yield node, masks


def _use_of_mask(function: ast.FunctionDef, masks: set[str]) -> tuple[bool, bool]:
    """Whether a mask is calculated with, and whether it is read in another way."""

    def is_mask(node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id in masks

    adds = reads = False
    for node in ast.walk(function):
        if isinstance(node, ast.BinOp):
            adds |= is_mask(node.left) or is_mask(node.right)
        elif isinstance(node, ast.Subscript):
            reads |= is_mask(node.value)
        elif isinstance(node, ast.Attribute):
            reads |= is_mask(node.value) and node.attr in READ_OF_MASK
        elif isinstance(node, ast.UnaryOp):
            reads |= is_mask(node.operand) and not isinstance(node.op, ast.Not)
    return adds, reads
