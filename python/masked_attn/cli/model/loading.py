"""Loads a tokenizer and a decoder, from a directory or by hub name, and says in one line why not.

The tokenizer and the config come first: prompts are checked against them before the weights load.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from masked_attn.cli.errors import BadInput, first_line

__all__ = [
    "EMBEDDED_MODEL",
    "Source",
    "find_model",
    "load_config",
    "load_model",
    "load_text_side",
    "make_config",
    "random_model",
]

EMBEDDED_MODEL = Path(__file__).resolve().parents[2] / "demo_model"
VOCABULARY = ("tokenizer.json", "vocab.json")
INSTALL_HINT = "run: pip install 'masked_attn[hf]'"

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Where a model is: the name for messages and whether it is a directory."""

    name: str
    is_directory: bool


def find_model(name: str | None) -> Source:
    """Tell a directory from a hub name; ``None`` is the embedded model.

    Raises:
        BadInput: a directory that is missing or holds no ``config.json``.
    """
    if name is None:
        if not (EMBEDDED_MODEL / "config.json").is_file():
            raise BadInput("this installation has no embedded model: name one with --model")
        return Source(str(EMBEDDED_MODEL), is_directory=True)
    try:
        path = Path(name).expanduser()
        is_directory = path.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long, a home folder of nobody
        raise BadInput(f"--model {name}: {first_line(error)}") from error
    if is_directory:
        if not (path / "config.json").is_file():
            raise BadInput(f"--model {name}: no config.json in this directory")
        return Source(str(path), is_directory=True)
    if not _may_be_hub_name(name):
        raise BadInput(f"--model {name}: no such directory")
    return Source(name, is_directory=False)


def load_config(source: Source) -> Any:
    """The config of a decoder of a known family.

    Raises:
        BadInput: transformers is missing, the model cannot be found, or it is of another family.
    """
    config = _fetch(source, _import_transformers().AutoConfig.from_pretrained)
    from masked_attn.hf.families.registry import FAMILIES

    known = sorted(family.model_type for family in FAMILIES if family.causal)
    if config.model_type not in known:
        raise BadInput(
            f"--model {source.name} is a {config.model_type!r} model, not one of {', '.join(known)}"
        )
    return config


def load_text_side(source: Source) -> tuple[Any, Any]:
    """The tokenizer and the config.

    Raises:
        BadInput: as ``load_config``, or the tokenizer is missing.
    """
    transformers = _import_transformers()
    config = load_config(source)
    if source.is_directory and not any(Path(source.name, file).is_file() for file in VOCABULARY):
        # transformers would make an empty tokenizer without a word.
        raise BadInput(f"--model {source.name}: no {' or '.join(VOCABULARY)} in this directory")
    return _fetch(source, transformers.AutoTokenizer.from_pretrained), config


def load_model(source: Source, dtype: str) -> Any:
    """The model in evaluation mode, of the given dtype, unpatched.

    Raises:
        BadInput: the weights are missing, damaged or incomplete.
    """
    transformers = _import_transformers()

    def load(name: str, **options: Any) -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(
            name,
            dtype=_dtype(dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, in words that name the weight
            **options,
        )

    model, report = _fetch(source, load)
    for key, _, _ in report["mismatched_keys"]:
        raise BadInput(f"--model {source.name}: the shape of {key} does not fit config.json")
    missing = sorted(report["missing_keys"])
    if missing:
        raise BadInput(
            f"--model {source.name}: the weights lack {missing[0]} ({len(missing)} in all)"
        )
    return model.eval()


def make_config(shape: Mapping[str, int]) -> Any:
    """The config of a GPT-2 of this shape (keyword arguments of ``GPT2Config``).

    Raises:
        BadInput: transformers is missing.
    """
    return _import_transformers().GPT2Config(**shape)


def random_model(config: Any, dtype: str) -> Any:
    """A GPT-2 with random weights of the given dtype, in evaluation mode, without a download."""
    return _import_transformers().GPT2LMHeadModel(config).to(_dtype(dtype)).eval()


def _dtype(name: str) -> Any:
    import torch  # the words of the command line are read without it

    return getattr(torch, name)


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        reason = "" if error.name == "transformers" else f" ({first_line(error)})"
        raise BadInput(f"this needs transformers{reason}; {INSTALL_HINT}") from error
    # One clear line is ours to give; the libraries below would add their own around it.
    talk: Any = transformers.utils.logging
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return transformers


def _may_be_hub_name(name: str) -> bool:
    """``name`` or ``owner/name``; anything else can only be meant as a path."""
    parts = name.split("/")
    return 1 <= len(parts) <= 2 and all(part.strip(".~") and os.sep not in part for part in parts)


def _fetch(source: Source, load: Callable[..., T]) -> T:
    """Load from the disk, then, for a hub name, from the hub."""
    try:
        return load(source.name, local_files_only=True)
    except Exception as error:  # damaged files fail in many ways
        if source.is_directory:
            raise BadInput(f"cannot load --model {source.name}: {first_line(error)}") from error
    _check_hub(source.name)
    try:
        return load(source.name)
    except Exception as error:
        raise BadInput(f"cannot load --model {source.name}: {first_line(error)}") from error


def _check_hub(name: str) -> None:
    """Ask the hub once: transformers itself would retry for half a minute before it gave up."""
    from huggingface_hub import HfApi

    not_here = f"--model {name}: no such directory, not in the local cache"
    try:
        known = HfApi().file_exists(name, "config.json")
    except Exception as error:
        raise BadInput(f"{not_here}, and the hub cannot be reached: {first_line(error)}") from error
    if not known:
        raise BadInput(f"{not_here}, and the hub has no such model")
