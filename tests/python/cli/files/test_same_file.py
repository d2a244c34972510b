"""No file is read and written at once, under whatever name the shell or the user opens it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_process import Ran

from masked_attn.cli import main
from masked_attn.cli.errors import BadInput
from masked_attn.cli.files.same_file import check_apart, check_input, check_output

TEXT = "My dog is\nWe will eat\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f"
    path.write_text(TEXT)
    return path


@pytest.fixture
def names(file: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The file under every kind of name."""
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "hard").hardlink_to(file)
    with file.open("r+b") as opened:
        yield {
            "itself": str(file),
            "link": str(tmp_path / "link"),
            "hard": str(tmp_path / "hard"),
            "descriptor": f"/dev/fd/{opened.fileno()}",
        }


Redirected = Callable[..., int]


@pytest.fixture
def redirected(monkeypatch: pytest.MonkeyPatch, model_folder: Path) -> Iterator[Redirected]:
    """The command line in this process, with streams that are files, as after ``< f >> g``."""
    opened = []

    def run(*words: str, **streams: Path) -> int:
        for name, file in streams.items():
            opened.append(file.open("r" if name == "stdin" else "a"))
            monkeypatch.setattr(sys, name, opened[-1])
        model = [] if words[0] == "bench" else ["--model", str(model_folder)]
        return main([*words, *model])

    yield run
    for stream in opened:
        stream.close()


@pytest.mark.parametrize(
    "words",
    [
        "generate --input f --output - --model {} >> f",
        "score --input - --model {} < f >> f",
    ],
)
def test_67_the_shell_appends_to_the_input(
    file: Path, tmp_path: Path, model_folder: Path, words: str
) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m masked_attn {words.format(model_folder)}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        timeout=120,  # an endless run ends here
        check=False,
    )
    Ran(done.returncode, done.stdout, done.stderr).assert_refused(
        "is the input, and standard output goes to the same file"
    )
    assert file.read_text() == TEXT


@pytest.mark.parametrize("name", ["itself", "link", "hard", "descriptor"])
@pytest.mark.parametrize("words", ["generate --output -", "generate", "score", "score --output -"])
def test_67_standard_output_is_the_input(
    redirected: Redirected,
    capfd: pytest.CaptureFixture[str],
    file: Path,
    names: dict[str, str],
    words: str,
    name: str,
) -> None:
    assert redirected(*words.split(), "--input", names[name], stdout=file) == 2
    message = f"{names[name]} is the input, and standard output goes to the same file\n"
    assert capfd.readouterr().err == f"masked_attn: error: {message}"
    assert file.read_text() == TEXT


def test_67_standard_output_is_the_redirected_input(
    redirected: Redirected, capfd: pytest.CaptureFixture[str], file: Path
) -> None:
    words = ("generate", "--input", "-", "--output", "-")
    assert redirected(*words, stdin=file, stdout=file) == 2
    assert "stdin is the input, and standard output goes to" in capfd.readouterr().err
    assert file.read_text() == TEXT


def test_67_messages_go_to_the_input(redirected: Redirected, file: Path, tmp_path: Path) -> None:
    """Each message would be the next broken line."""
    words = ("generate", "--input", str(file), "--format", "jsonl")
    assert redirected(*words, "--output", str(tmp_path / "out"), stderr=file) == 2
    sys.stderr.flush()
    message = f"{file} is the input, and standard error goes to the same file\n"
    assert file.read_text() == f"{TEXT}masked_attn: error: {message}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["itself", "link", "hard", "descriptor"])
@pytest.mark.parametrize("command", ["generate", "score"])
def test_67_the_output_is_the_input(
    redirected: Redirected,
    capfd: pytest.CaptureFixture[str],
    file: Path,
    names: dict[str, str],
    command: str,
    name: str,
) -> None:
    words = (command, "--output", names[name], "--overwrite", "--input")
    assert redirected(*words, str(file)) == 2
    assert f"{names[name]} is the input and the output" in capfd.readouterr().err
    assert redirected(*words, "-", stdin=file) == 2
    assert f"{names[name]} is the input and the output" in capfd.readouterr().err
    assert file.read_text() == TEXT


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    "words",
    [
        "generate --input {file} --overwrite --output {out}",
        "score --input {file} --resume --output {out}",
        "bench --size demo --json {out}",
    ],
)
def test_67_an_output_is_printed_to(
    redirected: Redirected,
    capfd: pytest.CaptureFixture[str],
    file: Path,
    tmp_path: Path,
    words: str,
    stream: str,
) -> None:
    out = tmp_path / "out"
    assert redirected(*words.format(file=file, out=out).split(), **{stream: out}) == 2
    getattr(sys, stream).flush()
    name = {"stdout": "standard output", "stderr": "standard error"}[stream]
    message = f"masked_attn: error: {out} is an output, and {name} goes to the same file\n"
    assert capfd.readouterr().err + out.read_text() == message


def test_67_other_redirections_work(redirected: Redirected, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("generate", "--input", "-", "--output", "-", "--max-new-tokens", "2")
    assert redirected(*words, stdin=file, stdout=out, stderr=tmp_path / "err") == 0
    assert out.read_text().count("\n") == 2
    assert redirected("score", "--input", str(file), stdout=out, stderr=out) == 0  # > out 2>&1
    nothing = Path(os.devnull)
    assert redirected("score", "--input", str(file), stdout=nothing, stdin=nothing) == 0


def test_67_closed_streams_are_named(
    run_here: Callable[..., Ran], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    run_here("score", "--input", "-").assert_refused("cannot read stdin: it is closed")
    monkeypatch.setattr(sys, "stdout", None)
    ran = run_here("score", "--input", str(file), "--output", "-")
    ran.assert_refused("cannot write stdout: it is closed")


def test_a_pipe_that_feeds_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as stream, open(writer, "w") as printed:
        monkeypatch.setattr(sys, "stdout", printed)
        with pytest.raises(BadInput, match="standard output goes to the same file"):
            check_input(stream.fileno(), "pipe")


def test_a_terminal_may_be_read_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/null", "r+") as terminal:  # as a device it stands for one
        monkeypatch.setattr(sys, "stdout", terminal)
        check_input(terminal.fileno(), "stdin")
        check_output(terminal.fileno(), "out")


def test_two_outputs_are_two_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").touch()
    (tmp_path / "b.png").hardlink_to(tmp_path / "a.json")
    (tmp_path / "c.png").symlink_to(tmp_path / "not there yet.png")
    for first, second in (
        ("a.png", "./a.png"),
        ("a.json", "b.png"),
        ("c.png", "not there yet.png"),
    ):
        with pytest.raises(BadInput, match="--json and --plot are the same file"):
            check_apart(str(tmp_path / first), str(tmp_path / second), "--json and --plot")
    check_apart(str(tmp_path / "a.json"), str(tmp_path / "c.png"), "--json and --plot")
