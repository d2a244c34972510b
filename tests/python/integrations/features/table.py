"""All features, by the name that their line in ``docs/gpt2.md`` has in a test id."""

from __future__ import annotations

from integrations.features.caches import CACHES, STOCK_CACHES
from integrations.features.decoding import DECODING
from integrations.features.feature import Feature
from integrations.features.inputs import INPUT
from integrations.features.left_to_stock import STOCK
from integrations.features.outputs import OUTPUTS

FEATURES: dict[str, Feature] = {
    **DECODING,
    **INPUT,
    **CACHES,
    **OUTPUTS,
    **STOCK,
    **STOCK_CACHES,
}
