"""The output file: whole lines only, whatever happens to the disk."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from masked_attn.cli.errors import BadInput
from masked_attn.cli.files.writer import LineWriter, open_output


@contextmanager
def opened(
    name: Path | str, *, may_hold: bool = False, file_only: bool = False
) -> Iterator[LineWriter]:
    with (
        open(os.devnull, "rb") as other,
        open_output(
            str(name), may_hold=may_hold, file_only=file_only, input_descriptor=other.fileno()
        ) as writer,
    ):
        yield writer


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The disk is full after so many bytes of any file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_line_is_one_write_and_on_disk_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(len(data)) or write(fd, data))
    with opened(tmp_path / "out") as writer:
        writer.start_after(0, 0)
        for line in (b"one\n", b"x" * 300_000 + b"\n"):
            writer.write(line)
            assert (tmp_path / "out").read_bytes().endswith(line)
        assert writer.lines == 2
    assert written == [4, 300_001]


def test_a_write_that_stops_half_way_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:2]))
    with opened(tmp_path / "out") as writer:
        writer.start_after(0, 0)
        writer.write(b"a long line\n")
    assert (tmp_path / "out").read_bytes() == b"a long line\n"


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    with opened(tmp_path / "out") as writer, file_size_limit(11):
        writer.start_after(0, 0)
        writer.write(b"one\n")
        writer.write(b"two\n")
        with pytest.raises(BadInput, match=r"cannot write .*out: .*; .*out holds 2 whole lines"):
            writer.write(b"three\n")
    assert (tmp_path / "out").read_bytes() == b"one\ntwo\n"


def test_an_interruption_in_a_write_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "out") as writer:
        writer.start_after(0, 0)
        writer.write(b"one\n")
        write = os.write

        def interrupted(descriptor: int, data: memoryview) -> int:
            write(descriptor, data[:2])
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.write(b"two\n")
        monkeypatch.undo()
        writer.write(b"three\n")
    assert (tmp_path / "out").read_bytes() == b"one\nthree\n"


def test_a_device_that_is_full_is_named() -> None:
    with opened("/dev/full") as writer:
        writer.start_after(0, 0)
        with pytest.raises(BadInput, match="cannot write /dev/full: No space left.*; 0 lines were"):
            writer.write(b"one\n")


@pytest.mark.parametrize("name", ["", "nul\0byte", "no/such/folder/out", "/"])
def test_a_file_that_cannot_be_written_is_named(name: str) -> None:
    with pytest.raises(BadInput, match="cannot write"), opened(name):
        pass


def test_a_file_that_holds_something_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(b"precious")
    with (
        pytest.raises(BadInput, match="exists: give --resume to continue it, or --overwrite"),
        opened(file),
    ):
        pass
    with opened(file, may_hold=True) as writer:
        assert writer.state() == "nothing was written"
    assert file.read_bytes() == b"precious"
    with opened(file, may_hold=True) as writer:
        writer.start_after(1, 4)
    assert file.read_bytes() == b"prec"


def test_an_empty_file_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with opened(tmp_path / "out"):
        pass


def test_the_input_is_not_an_output(tmp_path: Path) -> None:
    file = tmp_path / "both"
    file.write_bytes(b"a\n")
    (tmp_path / "link").symlink_to(file)
    with (
        file.open("rb") as stream,
        pytest.raises(BadInput, match="is the input and the output"),
        open_output(
            str(tmp_path / "link"),
            may_hold=True,
            file_only=False,
            input_descriptor=stream.fileno(),
        ),
    ):
        pass
    assert file.read_bytes() == b"a\n"


def test_two_writers_of_one_file_are_one_too_many(tmp_path: Path) -> None:
    with (
        opened(tmp_path / "out"),
        pytest.raises(BadInput, match="is being written by another process"),
        opened(tmp_path / "out"),
    ):
        pass
    with opened(tmp_path / "out"):
        pass


def test_only_a_file_can_be_resumed() -> None:
    with (
        pytest.raises(BadInput, match="--resume needs a file"),
        opened("/dev/null", file_only=True),
    ):
        pass
