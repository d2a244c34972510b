"""All features in the order of ``docs/features.md``: the only place where they are written down.

``make feature-table`` writes the page from it, ``test_feature_table.py`` runs every row.
"""

from __future__ import annotations

from hf.features.caches import CACHES
from hf.features.decoding import DECODING
from hf.features.encoders import ENCODER_ROWS
from hf.features.feature import Feature, name_of
from hf.features.hooks import HOOKS
from hf.features.inputs import INPUTS
from hf.features.inputs_left_to_stock import INPUTS_LEFT_TO_STOCK
from hf.features.keywords import KEYWORDS
from hf.features.outputs import OUTPUTS
from hf.features.training import TRAINING

# By the heading of the section, then by the words of the row, in Markdown.
SECTIONS: dict[str, dict[str, Feature]] = {
    "Ways of decoding": DECODING,
    "Inputs": {**INPUTS, **INPUTS_LEFT_TO_STOCK},
    "Caches": CACHES,
    "Models and outputs": OUTPUTS,
    "Training, keywords, hooks": {**TRAINING, **KEYWORDS, **HOOKS},
    "Encoders": ENCODER_ROWS,
}
# By the name in a test id.
FEATURES = {
    name_of(f"encoders {text}" if heading == "Encoders" else text): row
    for heading, rows in SECTIONS.items()
    for text, row in rows.items()
}
