"""Deliberate bugs: breaks the code once per entry and shows which tests notice.

    python tools/mutate.py                 # all of them
    python tools/mutate.py --list
    python tools/mutate.py cache_one_slot_late top_left_causal

Works on a copy of the tracked files in a temporary folder, with the torch and the build tools of
the Python that runs it. A mutation that no test notices makes the exit status 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KERNELS = "csrc/kernels"
OPS_TESTS = (
    "tests/python/ops/test_exactness.py",
    "tests/python/ops/test_masked_attention_masks.py",
)
CACHE_TESTS = ("tests/python/ops/test_cached_attention.py",)
LINEAR_TESTS = ("tests/python/ops/test_linear.py",)
MODEL_TESTS = ("tests/python/integrations",)


# The mask function's registration and the check that it is there.
REGISTRATION = """\
    AttentionMaskInterface.register(NAME, make_mask)
    if AttentionInterface()[NAME] is not attention_forward:
        raise RuntimeError("masked_attn: the attention function could not be registered")
    if AttentionMaskInterface()[NAME] is not make_mask:
        raise RuntimeError("masked_attn: the mask function could not be registered")
"""


@dataclass(frozen=True)
class Mutation:
    """One bug: `old` becomes `new` in `path`; `tests` are the pytest files that should notice."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "mask_dropped_on_the_last_tile",
        f"{KERNELS}/cpu/attention_tiled.h",
        "all_see == low_bits(used),",
        "used < kKeyTile || all_see == low_bits(used),",
        OPS_TESTS,
    ),
    Mutation(
        "key_start_off_by_one",
        f"{KERNELS}/mask.h",
        "    while (range.end > range.begin && !key_visible(row, range.end - 1)) --range.end;\n",
        "    while (range.end > range.begin && !key_visible(row, range.end - 1)) --range.end;\n"
        "    if (range.begin + 1 < range.end) ++range.begin;\n",
        OPS_TESTS,
    ),
    Mutation(
        "skipped_rescale_of_the_running_sum",
        f"{KERNELS}/cpu/online_softmax.h",
        "    sum *= factor;\n",
        "",
        OPS_TESTS,
    ),
    Mutation(
        "cache_one_slot_late",
        "csrc/ops/cpu/cached_attention.cpp",
        "append(new_key, key_cache, position);",
        "append(new_key, key_cache, std::min(position + 1, key_cache.size(2) - query.size(2)));",
        CACHE_TESTS + MODEL_TESTS,
    ),
    Mutation(
        "mask_function_not_registered",
        "python/masked_attn/integrations/attention_interface.py",
        "    AttentionMaskInterface.register(NAME, make_mask)\n",
        "",
        MODEL_TESTS,
    ),
    Mutation(
        "mask_function_not_registered_and_not_checked",
        "python/masked_attn/integrations/attention_interface.py",
        REGISTRATION,
        "",
        MODEL_TESTS,
    ),
    Mutation(
        "top_left_causal",
        f"{KERNELS}/mask.h",
        "shift_(keys.end - queries.end),",
        "shift_(keys.begin - queries.begin),",
        OPS_TESTS,
    ),
    Mutation(
        "packed_sequence_ends_one_late",
        f"{KERNELS}/rows.h",
        "min_of(offsets[row + 1], end)",
        "min_of(offsets[row + 1] + 1, end)",
        ("tests/python/ops/test_packed_attention.py",),
    ),
    Mutation(
        "masked_scores_count_as_zero",
        f"{KERNELS}/cpu/online_softmax.h",
        "const Vec<T> hidden = Vec<T>::broadcast(negative_infinity(T{}));",
        "const Vec<T> hidden = Vec<T>::broadcast(T{0});",
        OPS_TESTS,
    ),
    Mutation(
        "one_too_many_in_a_tail",
        f"{KERNELS}/cpu/vec.h",
        "for (; i < count; ++i) from_float(values[i] * factor, out + i);",
        "for (; i <= count; ++i) from_float(values[i] * factor, out + i);",
        ("tests/python/ops/test_masked_attention.py",),
    ),
    Mutation(
        "last_row_of_a_weight_dropped",
        f"{KERNELS}/cpu/linear_rows.h",
        "for (; n < block.end; ++n) add_rows<1>",
        "for (; n + 1 < block.end; ++n) add_rows<1>",
        LINEAR_TESTS,
    ),
    Mutation(
        "linear_sum_without_its_first_panels",
        f"{KERNELS}/cpu/linear_columns.h",
        "panel.first = k == 0;",
        "panel.first = k == 0 || k > 1000;",
        LINEAR_TESTS,
    ),
)


def copy_tracked_files(folder: Path) -> None:
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)


def build(folder: Path) -> None:
    """Build in place with C++ tests; only what changed since the last build is compiled."""
    configure = ["cmake", "-S", ".", "-B", "mutants", "-G", "Ninja", "-DMASKED_ATTN_BUILD_TESTS=ON"]
    configure.append(f"-DPython3_EXECUTABLE={sys.executable}")
    for command in (configure, ["cmake", "--build", "mutants"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    for library in (*folder.glob("mutants/_C*.so"), *folder.glob("mutants/lib*.so")):
        shutil.copy2(library, folder / "python" / "masked_attn")


def failing_tests(folder: Path, tests: tuple[str, ...]) -> list[str]:
    """Names of failing tests: the C++ kernel tests and the given pytest files."""
    environment = {**os.environ, "PYTHONPATH": "python", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    python = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", python.stdout, re.MULTILINE)
    if python.returncode not in (0, 1) and not failed:
        failed = [f"pytest ended with {python.returncode}"]
    ctest = ["ctest", "--test-dir", "mutants", "--timeout", "120"]
    cpp = subprocess.run(ctest, cwd=folder, capture_output=True, text=True).stdout
    return failed + re.findall(
        r"^\s*\d+ - (.+) \((?:Failed|Timeout|SEGFAULT|.*)\)", cpp, re.MULTILINE
    )


def mutate(folder: Path, mutation: Mutation) -> list[str]:
    path = folder / mutation.path
    original = path.read_text()
    if original.count(mutation.old) != 1:
        sys.exit(f"{mutation.name}: its text must occur once in {mutation.path}")
    path.write_text(original.replace(mutation.old, mutation.new))
    try:
        if mutation.path.startswith("csrc"):
            build(folder)
        return failing_tests(folder, mutation.tests)
    finally:
        path.write_text(original)


def main() -> int:
    parser = argparse.ArgumentParser(description="Show which tests notice deliberate bugs.")
    parser.add_argument("names", nargs="*", help="mutations to try (default: all)")
    parser.add_argument("--list", action="store_true", help="list the mutations and stop")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{m.name}: {m.path}" for m in MUTATIONS))
        return 0
    chosen = [m for m in MUTATIONS if not options.names or m.name in options.names]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="masked_attn_mutants_") as name:
        folder = Path(name)
        copy_tracked_files(folder)
        build(folder)
        for mutation in chosen:
            failed = mutate(folder, mutation)
            survivors += not failed
            print(f"{mutation.name}: {len(failed)} tests fail", flush=True)
            for test in failed[:6]:
                print(f"    {test}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
