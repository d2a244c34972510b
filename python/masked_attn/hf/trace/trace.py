"""What the layers of one forward ran: they write it while they run."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CACHED", "MASKED", "OPERATORS", "PACKED", "STOCK", "TEXTBOOK", "Trace"]

# The paths that attention may take, in all code, reports and documents.
PACKED = "packed_attention"
CACHED = "cached_attention"
MASKED = "masked_attention"
TEXTBOOK = "textbook"
STOCK = "stock"
OPERATORS = (PACKED, CACHED, MASKED)


@dataclass
class Trace:
    """What ran in one forward.

    Attributes:
        paths: number of the layer to the path that it took.
        cross_paths: the same for cross attention.
        reasons: why a layer ran stock code although there was a plan.
        windows: of all layers that have one.
    """

    paths: dict[int, str] = field(default_factory=dict)
    cross_paths: dict[int, str] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    windows: set[int] = field(default_factory=set)
