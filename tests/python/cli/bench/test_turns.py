"""The harness: who plays when, who drops out, and the figures of turns."""

from __future__ import annotations

import pytest

from masked_attn.cli.bench.turns import Generations, Turn, take_turns


def test_every_other_turn_goes_the_other_way_round() -> None:
    played: list[str] = []

    def play(name: str) -> Turn:
        played.append(name)
        return 1.0, 2.0, name

    take_turns({name: Generations() for name in "abc"}, play, 3)
    assert played == list("abccbaabc")


def test_who_fails_drops_out_and_the_others_go_on() -> None:
    found = {name: Generations() for name in "ab"}
    ends = []

    def play(name: str) -> Turn:
        if name == "a" and found["a"].total:
            raise ValueError("no memory\nmore")
        return 1.0, 2.0, name

    take_turns(found, play, 3, done=lambda: ends.append(1))
    assert found["a"].error == "ValueError: no memory" and not found["a"].measured
    assert found["b"].total == [2.0] * 3 and found["b"].measured
    assert len(ends) == 6


@pytest.mark.parametrize("failures", [(), (KeyError,)])
def test_a_failure_that_is_not_expected_is_raised(failures: tuple[type[Exception], ...]) -> None:
    def play(name: str) -> Turn:
        raise ValueError(name)

    with pytest.raises(ValueError, match="a"):
        take_turns({"a": Generations()}, play, 1, failures=failures)


def test_the_reason_is_said_in_the_words_of_the_caller() -> None:
    one = Generations()

    def fail() -> None:
        raise KeyError("gone")

    assert one.attempt(fail, (KeyError,), lambda error: f"lost {error}") is None
    assert one.error == "lost 'gone'"
    assert one.attempt(lambda: 1) is None, "it has dropped out"


def test_figures_of_turns() -> None:
    one = Generations()
    for prompt, total in ((1.0, 4.0), (2.0, 4.5), (1.5, 6.0)):
        one.add(prompt, total, [total])
    assert one.tokens == [4.0], "of the first turn"
    assert one.median_total == 4.5
    assert one.steps_ms(new_tokens=4) == pytest.approx([1000.0, 2500 / 3, 1500.0])
