"""Put what `make gpu` found into one table: report.md and report.json in the folder that is given.

Reads the JSON of each benchmark, tests.txt (how the tests ended) and problems.txt (what failed or
did not fit into the time).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OURS, STOCK = "masked_attn", "stock, sdpa"
COLUMNS = ("what", "case", "rival", "ours, ms", "rival, ms", "ratio", "note")


def operator_rows(what: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each rival of a table of an operator."""
    return [
        {
            "what": what,
            "case": row["case"],
            "rival": row["rival"],
            "ours, ms": row["ours_best_ms"],
            "rival, ms": row["rival_best_ms"],
            "ratio": row["ratio_best"],
            "note": row["note"],
        }
        for row in rows
    ]


def generate_rows(what: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The whole call, the prompt and a step for each rival of our `generate`."""
    found = []
    ours = {row["workload"]: row for row in rows if row["system"] == OURS}
    for row in rows:
        mine = ours.get(row["workload"])
        if row is mine or mine is None:
            continue
        note = f"ours: {mine['equal_tokens']} tokens are the same" if row["system"] == STOCK else ""
        for part, key, factor in (
            ("total", "total_s", 1e3),
            ("prompt", "prompt_s", 1e3),
            ("step", "step_ms", 1),
        ):
            rival, us = factor * row[key], factor * mine[key]
            found.append(
                {
                    "what": what,
                    "case": f"{row['workload']}, {part}",
                    "rival": row["system"],
                    "ours, ms": us,
                    "rival, ms": rival,
                    "ratio": rival / us,
                    "note": note if part == "total" else "",
                }
            )
    return found


def all_rows(runs: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of every run, in the order of the runs."""
    found = []
    for run in runs.values():
        rows_of = generate_rows if run["script"] == "generate" else operator_rows
        for name, rows in run["tables"].items():
            found += rows_of(name, rows)
    return found


def machine_lines(runs: dict[str, Any]) -> list[str]:
    """What the machine is, and its rates: a line for each dtype."""
    described = {
        run["machine"].get("dtype"): run["described"].splitlines() for run in runs.values()
    }
    firsts = [lines[0] for lines in described.values()]
    return firsts[:1] + [line for lines in described.values() for line in lines[1:]]


def cell(value: str | float) -> str:
    return value.replace("|", "/") if isinstance(value, str) else f"{value:.4g}"


def markdown(report: dict[str, Any]) -> str:
    """The whole report as text."""
    lines = ["# masked_attn on a GPU", "", *(f"- {line}" for line in report["machine"])]
    lines += [f"- CUDA tests: {report['tests']}"]
    lines += [
        "- Best of some turns, all rivals in one process, in turn; ratio = rival / ours: above 1,",
        "  ours is faster. Operators by the clock of the GPU unless the name says the host's, and",
        "  each result was compared with the truth in float64 before; `generate` by the host's.",
        "",
    ]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in report["rows"]:
        lines.append("| " + " | ".join(cell(row[column]) for column in COLUMNS) + " |")
    if report["problems"]:
        lines += ["", "Failed or left out:", "", *(f"- {line}" for line in report["problems"])]
    return "\n".join(lines) + "\n"


def lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def main() -> None:
    folder = Path(sys.argv[1])
    files = [file for file in folder.glob("*.json") if file.name != "report.json"]
    files.sort(key=lambda file: file.stat().st_mtime)
    runs = {file.stem: json.loads(file.read_text()) for file in files}
    notes = [f"{name}: {note}" for name, run in runs.items() for note in run["notes"]]
    report = {
        "machine": machine_lines(runs),
        "tests": "; ".join(lines_of(folder / "tests.txt")) or "not run",
        "problems": lines_of(folder / "problems.txt") + notes,
        "rows": all_rows(runs),
        "runs": runs,
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    text = markdown(report)
    (folder / "report.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
