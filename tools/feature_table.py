"""Writes the table of docs/features.md from its data, tests/python/hf/features.

make feature-table
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "python"))

from hf.features.page import PAGE, page


def main() -> None:
    text = PAGE.read_text()
    PAGE.write_text(page(text))
    print(f"{PAGE.name}: {'as it was' if page(text) == text else 'written'}")


if __name__ == "__main__":
    main()
