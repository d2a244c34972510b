"""Print what ptxas said of each CUDA kernel as a Markdown table; fail if one spills registers.

python tools/cuda_kernels_table.py build.log
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ENTRY = re.compile(
    r"Compiling entry function '(?P<symbol>\S+)' for 'sm_(?P<arch>\d+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)
# Itanium mangling: the kernel's name, then its template arguments.
NAME = re.compile(r"\d+(?P<kernel>tiled|few|merge|softmax|expand|append)I(?P<arguments>\w+?)EEvNS")
TYPES = {"f": "float", "d": "double", "t": "2 bytes", "j": "4 bytes", "m": "8 bytes"}
THREADS = {"tiled": 128, "few": 128, "merge": 32, "softmax": 128, "expand": 256, "append": 128}
# Shared memory of a multiprocessor and what a block costs besides its own, in bytes.
SHARED = {"80": 164 * 1024, "90": 228 * 1024}
RESERVED = 1024
RANGE = 2 * 32 * 8  # kRangeBytes of csrc/kernels/cuda/warp.h


@dataclass(frozen=True)
class Kernel:
    """One kernel for one architecture."""

    name: str
    type: str
    columns: int  # of values, for each lane; 0: none
    arch: str
    registers: int
    stack: int
    spills: int

    @property
    def shared(self) -> int:
        """Bytes of shared memory with heads as large as the kernel takes (see the layouts)."""
        size = 8 if self.type == "double" else 4
        rows = 4 if self.type == "double" else 8
        dim = 32 * self.columns
        if self.name == "tiled":
            return RANGE + 16 + 4 * rows * dim * size + 32 * (dim + 1) * size
        if self.name == "few":
            return RANGE + rows * dim * size + 4 * rows * (2 + dim) * size
        return {"softmax": RANGE + 64, "merge": RANGE}.get(self.name, 0)

    @property
    def occupancy(self) -> float:
        """Share of the 64 warps of a multiprocessor that can be there at once."""
        warps = THREADS[self.name] // 32
        by_registers = 65536 // (-(-self.registers * 32 // 256) * 256) // warps
        by_shared = SHARED[self.arch] // (self.shared + RESERVED)
        return min(by_registers, by_shared, 64 // warps, 32) * warps / 64


def kernels_of(log: str) -> list[Kernel]:
    found = []
    for entry in ENTRY.finditer(log):
        name = NAME.search(entry["symbol"])
        if name is None:
            raise SystemExit(f"cannot read the name of {entry['symbol']}")
        columns = re.search(r"Li(\d+)", name["arguments"])
        found.append(
            Kernel(
                name["kernel"],
                TYPES[name["arguments"][0]],
                int(columns[1]) if columns else 0,
                entry["arch"],
                int(entry["registers"]),
                int(entry["stack"]),
                int(entry["stores"]) + int(entry["loads"]),
            )
        )
    return found


def main() -> None:
    kernels = kernels_of(Path(sys.argv[1]).read_text())
    if not kernels:
        raise SystemExit(f"{sys.argv[1]} names no kernel")
    print("| kernel | type | values up to | sm | registers | shared, bytes | spills | occupancy |")
    print("|---|---|---|---|---|---|---|---|")
    for kernel in sorted(kernels, key=lambda k: (k.name, k.type, k.columns, k.arch)):
        limit = 32 * kernel.columns or "-"
        print(
            f"| {kernel.name} | {kernel.type} | {limit} | {kernel.arch} | {kernel.registers} "
            f"| {kernel.shared} | {kernel.spills} | {kernel.occupancy:.0%} |"
        )
    bad = [kernel for kernel in kernels if kernel.spills or kernel.stack]
    if bad:
        raise SystemExit(f"these spill registers or use local memory: {bad}")


if __name__ == "__main__":
    main()
