"""Ways to copy a model as a whole, each of which must take a patch along."""

from __future__ import annotations

import io
import pickle
from typing import Any

import torch


def pickled(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


def torch_saved(model: Any) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)
