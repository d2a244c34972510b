"""The first table of ``docs/features.md``: what each family has, as the package knows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace

from hf.features.feature import STOCK, Feature

from masked_attn.hf.families.family import ModelFamily
from masked_attn.hf.families.registry import FAMILIES
from masked_attn.hf.layers.recipes import TABLE

HEAD = (
    "| family | class | pads | cache of `generate` | activation inside `linear` | stock code "
    "besides | `patch` refuses | tests |\n|---|---|---|---|---|---|---|---|\n"
)
# One config each that some family may refuse.
ASKED = (
    ("attn_logit_softcapping", 50.0),
    ("use_bidirectional_attention", True),
    ("is_decoder", True),
    ("add_cross_attention", True),
)
TESTS = {
    "gpt2": "`tests/python/hf/test_*.py`",
    "decoder": "`test_decoders*.py`, `test_decoder_heads.py`",
    "encoder": "`test_encoders.py`, `test_encoder_heads.py`",
}
BEFORE = (
    "In every family attention runs on the operators and linear layers on `linear`, and on a CPU a "
    "row has the same bits in any batch, but for models with experts: these are stock code, and "
    "how many tokens one gets depends on the batch. Stock code runs where a row of the tables "
    "below says so "
    'for all; "besides" are rows in which others run ours. `patch` refuses a model whose config '
    "has one of these options.\n"
)
AFTER = (
    "Tests without a folder are in `tests/python/hf/families`. Of all these families are, there, "
    "those of training, refusals, `patch` itself, pipelines, sentence-transformers and equal bits, "
    "besides `tests/python/hf/test_layers_by_class.py` and the rows below.\n"
)


def families_table(sections: Mapping[str, Mapping[str, Feature]]) -> str:
    """One line for each family, in the order of the package.

    Args:
        sections: the rows of all other tables, by heading and by words.
    """
    lines = [_line(family, sections) for family in FAMILIES]
    return f"### What each family has\n\n{BEFORE}\n{HEAD}{''.join(lines)}\n{AFTER}"


def _line(family: ModelFamily, sections: Mapping[str, Mapping[str, Feature]]) -> str:
    cells = (
        family.name,
        f"`{family.backbone}`",
        _pads(family),
        "`KVCache`" if family.causal else "",
        ", ".join(f"`{name}`" for name in TABLE.get(family.folder, ())),
        ", ".join([*_experts(family), *_only_here(family.name, sections)]),
        ", ".join(_refused(family)),
        TESTS["gpt2" if family.folder == "gpt2" else "decoder" if family.causal else "encoder"],
    )
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|\n"


def _pads(family: ModelFamily) -> str:
    if family.causal:
        return "dropped, but those that predict"
    return "dropped, but the first slot" + ("" if family.pooler is None else ", which is pooled")


def _experts(family: ModelFamily) -> Iterator[str]:
    if family.router is not None:
        yield "experts and their routers"


def _only_here(name: str, sections: Mapping[str, Mapping[str, Feature]]) -> Iterator[str]:
    """Rows in which this family runs stock code and others do not."""
    for rows in sections.values():
        for text, row in rows.items():
            if name in row.differs and STOCK in row.on(name).paths and STOCK not in row.paths:
                yield text


def _refused(family: ModelFamily) -> Iterator[str]:
    for option, value in ASKED:
        if family.refused(SimpleNamespace(**{option: value})) is not None:
            yield f"`{option}`"
