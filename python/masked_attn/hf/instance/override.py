"""What stands in for a method of one model instance, as an attribute of that instance.

The surprise: it holds its model weakly. Held strongly the two would keep each other alive until the
garbage collector runs, and the model's memory with them.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar
from weakref import ref

import torch

__all__ = ["Model", "Override"]

Model = TypeVar("Model", bound=torch.nn.Module)


class Override(Generic[Model]):
    """A callable on an instance; copies and pickles of the model take it with them.

    Args:
        model: the instance.
        previous: what was set under this name on the instance before, or None.
    """

    def __init__(self, model: Model, previous: Any) -> None:
        self._model = ref(model)
        self.previous = previous

    @property
    def model(self) -> Model:
        """The instance."""
        model = self._model()
        if model is None:
            raise RuntimeError("the patched model is gone: keep it, not only a method of it")
        return model

    def beneath(self, name: str) -> Any:
        """What would run without this: what was set before, or the method of the class."""
        if self.previous is not None:
            return self.previous
        return getattr(type(self.model), name).__get__(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": self.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._model = ref(state["_model"])
