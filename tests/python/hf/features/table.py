"""All features, by the name that their line in ``docs/gpt2.md`` has in a test id."""

from __future__ import annotations

from hf.features.caches import CACHES, STOCK_CACHES
from hf.features.decoding import DECODING
from hf.features.feature import Feature
from hf.features.inputs import INPUT
from hf.features.left_to_stock import STOCK
from hf.features.outputs import OUTPUTS

FEATURES: dict[str, Feature] = {
    **DECODING,
    **INPUT,
    **CACHES,
    **OUTPUTS,
    **STOCK,
    **STOCK_CACHES,
}
