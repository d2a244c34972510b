"""``generate --compare``: the same prompts three ways, their seconds and their tokens.

Every way has one warm-up run; then the timed runs take turns, so that a slow moment of the machine
meets all of them, and the best run of each counts. Tokens are compared in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from masked_attn.cli.generate.job import Job
from masked_attn.cli.generate.ties import Judge, first_difference
from masked_attn.cli.model.attention import maybe_patched, what_ran
from masked_attn.cli.progress import Progress, progress

__all__ = ["Difference", "Way", "find_differences", "format_table", "run"]


@dataclass
class Way:
    """One way to run the prompts, and what its runs gave."""

    name: str
    patched: bool
    batches: list[list[list[int]]]
    seconds: list[float] = field(default_factory=list)
    tokens: list[list[list[int]]] = field(default_factory=list)  # of each run, warm-up included
    attention: str = ""

    @property
    def best(self) -> float:
        return min(self.seconds)

    def run(self, job: Job, shown: Progress, *, timed: bool) -> None:
        seconds = 0.0
        tokens: list[list[int]] = []
        with maybe_patched(job.model, self.patched):
            for batch in self.batches:
                decoded = job.decode(batch)
                seconds += decoded.seconds
                tokens += decoded.tokens
                shown.done(len(batch))
            self.attention = what_ran(job.model, self.patched)
        self.tokens.append(tokens)
        if timed:
            self.seconds.append(seconds)


@dataclass(frozen=True)
class Difference:
    """A sequence of one way that differs from the reference, and the verdict."""

    way: str
    sequence: int
    is_tie: bool
    text: str


def run(job: Job, *, repeats: int) -> int:
    """Time the three ways, print completions, a table and every difference.

    Returns:
        The exit status: 1 when tokens disagree beyond a tie.
    """
    ways = _run_ways(job, repeats)
    _, ours, alone = ways
    differences = [d for way in ways for d in find_differences(job, way, alone)]
    print(job.show(ours.tokens[0]), end="\n\n")
    print(format_table(ways, alone, differences))
    dtype = str(job.model.dtype).removeprefix("torch.")
    print(
        f"seconds: best of {repeats} runs that took turns, after a warm-up; tokens: against alone"
    )
    print(f"attention: {ours.attention}; dtype: {dtype}; threads: {torch.get_num_threads()}")
    for difference in differences:
        print(difference.text)
    return int(any(not difference.is_tie for difference in differences))


def find_differences(job: Job, way: Way, reference: Way) -> list[Difference]:
    """Every sequence of ``way`` that differs from the reference in any run, first step only."""
    found: dict[int, tuple[int, int | None, int | None]] = {}
    for tokens in way.tokens:
        for sequence, expected in enumerate(reference.tokens[0]):
            step = first_difference(tokens[sequence], expected)
            if step is not None:
                found.setdefault(sequence, step)
    if not found:
        return []
    judge = None if job.options["num_beams"] > 1 else Judge(job.model, job.options)
    return [
        _describe(job, way, sequence, reference.tokens[0][sequence], step, judge)
        for sequence, step in sorted(found.items())
    ]


def format_table(ways: Sequence[Way], reference: Way, differences: Sequence[Difference]) -> str:
    """Seconds, tokens per second, speed-up over the first way, and whether the tokens agree."""
    lines = [f"{'':<24}{'seconds':>9}{'tokens/s':>10}{'speed-up':>10}  tokens"]
    for way in ways:
        count = sum(len(row) for row in way.tokens[0])
        mine = [difference for difference in differences if difference.way == way.name]
        lines.append(
            f"{way.name:<24}{way.best:>9.3f}{count / way.best:>10.0f}"
            f"{ways[0].best / way.best:>9.2f}x  {_agreement(way is reference, mine)}"
        )
    return "\n".join(lines)


def _run_ways(job: Job, repeats: int) -> list[Way]:
    alone = [[row] for row in job.rows]
    ways = [
        Way("stock, batch", patched=False, batches=job.batches),
        Way("masked_attn, batch", patched=True, batches=job.batches),
        Way("stock, one at a time", patched=False, batches=alone),
    ]
    calls = (repeats + 1) * sum(len(way.batches) for way in ways)
    with progress((repeats + 1) * len(ways) * len(job.rows), calls) as shown:
        for turn in range(repeats + 1):
            for way in ways if turn % 2 == 0 else reversed(ways):
                way.run(job, shown, timed=turn > 0)
    return ways


def _describe(
    job: Job,
    way: Way,
    sequence: int,
    expected: list[int],
    step: tuple[int, int | None, int | None],
    judge: Judge | None,
) -> Difference:
    index, ours, theirs = step
    row = sequence // job.returned
    what = (
        f"{job.prompts[row]}, {way.name}, new token {index + 1}: "
        f"{_name(job, ours)}, alone {_name(job, theirs)}"
    )
    if judge is None:
        text = f"{what}: DIFFERENT (ties are told apart without beams only)"
        return Difference(way.name, sequence, is_tie=False, text=text)
    verdict = judge.compare(job.rows[row] + expected[:index], ours, theirs)
    word = "a tie" if verdict.is_tie else "DIFFERENT"
    text = f"{what}: {word}, logits {verdict.gap:.2g} apart, rounding error {verdict.error:.2g}"
    return Difference(way.name, sequence, verdict.is_tie, text)


def _name(job: Job, token: int | None) -> str:
    return "the end" if token is None else repr(job.text([token]))


def _agreement(is_reference: bool, differences: Sequence[Difference]) -> str:
    ties = sum(difference.is_tie for difference in differences)
    others = len(differences) - ties
    words = []
    if others:
        words.append(f"{others} DIFFERENT")
    if ties:
        words.append(f"{ties} tied")
    if words:
        return ", ".join(words)
    return "reference" if is_reference else "equal"
