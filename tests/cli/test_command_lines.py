"""Hostile command lines: each ends in one line, before torch is imported or anything is written."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vampyro import cli as run
from vampyro import data
from vampyro.cli import export, reproduce, sample, score, sweep
from vampyro.errors import DataError, SpecError, quote, shorten
from vampyro.reports import measure as rescore
from vampyro.runs import config as flags
from vampyro.runs import training_run as begin
from vampyro.runs.arguments import MAX_LENGTH
from vampyro.sweeps import sweep as campaign
from vampyro.sweeps.grid import SweepError

ROOT = Path(__file__).parents[2]
SPLITS = ("train", "valid", "test")
GREY = np.random.RandomState(0).rand(12, 6, 5).astype("float32")
# --- command lines

PARSERS = {
    "train": ([], flags.parser()),
    "score": (["a-run"], score.parser()),
    "sample": (["a-run"], sample.parser()),
    "export": (["a-run"], export.parser()),
    "sweep": (["--vary", "latent=2,3"], sweep.parser("run.py sweep", "")),
    "reproduce": (["planar-lengths"], reproduce.parser()),
}
SHARING = ("sweep", "reproduce")  # they have the flags of `train`, and some of their own
# No flag has these as its value.
NO_VALUES = ["--", "", "  ", "\0", "two\nlines", "\t", "\x7f", "x" * (MAX_LENGTH + 1), "x" * 100_000]
# Some flags have: paths. None of them may end in a traceback, or fill a screen.
ODD = ["-x", "-1", "nan", "1e400", "9" * 30, "1_0", "١٢", ",", ":", "é\udcff", "%s", "y" * 3000, "vamp:0", "/dev/null"]


def ended(argv):
    """(exit status, the error)."""
    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words), contextlib.redirect_stdout(io.StringIO()):
            status = run.main(argv)
    except SystemExit as stop:
        status = stop.code
    return (1, status) if isinstance(status, str) else (status, words.getvalue().strip())


@pytest.fixture
def nothing_begins(monkeypatch):
    """What a command does after its flags are read is to say so."""

    def reached(error):
        def stop(*args, **kwargs):
            raise error("reached")

        return stop

    for place, name in ((begin, "start"), (rescore, "rescore"), (sample, "sample"), (export, "export")):
        monkeypatch.setattr(place, name, reached(SpecError))
    monkeypatch.setattr(export, "require", lambda *_: None)
    monkeypatch.setattr(campaign, "ready", reached(SweepError))


@pytest.mark.parametrize("command", PARSERS)
def test_no_value_of_any_flag_ends_in_a_traceback(command, nothing_begins):
    before, p = PARSERS[command]
    skipped = {"--help", "--list"} | (set(flags.parser()._option_string_actions) if command in SHARING else set())
    actions = [action for action in p._actions if action.option_strings and action.option_strings[-1] not in skipped]
    assert len(actions) > 5
    for action in actions:
        flag = action.option_strings[-1]
        for value in [*NO_VALUES, *ODD]:
            for words in ([f"{flag}={value}"], *([] if action.nargs == 0 else [[flag, value]])):
                status, message = ended([command, *(before if flag != "--vary" else []), *words])
                assert status in (1, 2) and message.startswith("error: "), (words, message)
                assert "\n" not in message and len(message) < 1200, (words, message)
                if value in NO_VALUES:
                    assert status == 2 and flag in message and "reached" not in message, (words, message)


@pytest.mark.parametrize("command", PARSERS)
@pytest.mark.parametrize("value", [*NO_VALUES, *ODD], ids=quote)
def test_no_other_word_ends_in_a_traceback(command, value, nothing_begins):
    for words in ([value], [f"--zzz={value}"], ["--zzz", value], [value, value]):
        status, message = ended([command, *words])
        assert status in (1, 2) and message.startswith("error: ") and "\n" not in message and len(message) < 1200
    assert ended([value])[0] in (1, 2)


@pytest.mark.parametrize("text", ["1_0", "١٠", "１０"])
def test_numbers_are_ascii_digits(text, nothing_begins):
    """Python's int reads each of these as 10."""
    assert int(text) == 10
    for flag in ("--epochs", "--latent", "--lr", "--hidden"):
        status, message = ended([flag, text])
        assert status == 2 and f"argument {flag}: expected a" in message


def test_of_a_flag_that_is_repeated_the_last_counts():
    """As with other commands, so that a line can be completed with what should be different."""
    config, *_ = flags.read(["--latent", "2", "--latent=3"])
    assert config["latent"] == 3


def test_an_empty_out_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ended(["--out", ""])[0] == 2 and ended(["--out=--"])[0] == 2
    assert list(tmp_path.iterdir()) == []


def test_long_values_are_shortened_and_short_ones_are_not():
    assert (
        quote("vamp:5") == "'vamp:5'" and len(quote("x" * 10**6)) < 120 and "1000002 characters" in quote("x" * 10**6)
    )
    path = "/".join(["folder"] * 100)
    assert shorten(f"cannot read {path}") == f"cannot read {path}"
    assert len(shorten(f"cannot read {'x' * 10**6}, but y")) < 200 and shorten("x" * 2000 + " y").endswith(" y")


# --- what --dataset and --data-dir may name


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", GREY)
    np.savez("images.npz", **dict.fromkeys(SPLITS, GREY))
    shutil.copy("images.npz", "COPY.NPZ")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "picture.PNG").touch()
    os.symlink("loop", "loop")
    os.mkfifo("fifo.npz")
    return tmp_path


SOURCES = {
    "MNIST": "did you mean 'mnist'?",
    "Fashion_MNIST": "did you mean 'fashion-mnist'?",
    "pictures": "folders are not supported: save its pictures in one file: x = numpy.stack",
    "images.npy": "x = numpy.load('FILE.npy'); numpy.savez('images.npz', train=",
    "picture.PNG": "PIL.Image.open(f)",
    "file": "not an .npz file",
    "gone.npz": "No such file or directory",
    "gone.npy": "or FILE.npz",
    "loop": "Too many levels of symbolic links",
    "loop/images.npz": "Too many levels of symbolic links",
    "file/images.npz": "Not a directory",
    "fifo.npz": "expected a regular file",
    "x" * 300 + ".npz": "File name too long",
}


@pytest.mark.parametrize("name", SOURCES, ids=lambda name: name[:20])
def test_what_is_no_data_set_says_what_is_supported(name, files):
    status, message = ended(["--dataset", name])
    assert status == 1 and message.startswith("error: --dataset: ") and SOURCES[name] in message and "\n" not in message
    with pytest.raises(DataError):
        data.load(name)


def test_the_advice_on_other_files_works(files):
    """The lines of numpy that errors give."""
    import PIL.Image

    from vampyro.data.names import COLOUR as colour
    from vampyro.data.names import CONVERSIONS, PICTURES, SAVE

    pictures = np.random.RandomState(0).randint(256, size=(2100, 6, 5, 3)).astype("uint8")
    np.save("FILE.npy", pictures[..., 0])
    exec(CONVERSIONS[".npy"].removeprefix("convert it: "), {"numpy": np})
    assert np.array_equal(data.load("images.npz", binarize="none").train[:, 0], pictures[:100, ..., 0])
    (files / "FOLDER").mkdir()
    for number, picture in enumerate(pictures):
        PIL.Image.fromarray(picture).save(files / "FOLDER" / f"{number:05}.png")
    statements = (
        f"import glob, PIL.Image, numpy\n{PICTURES}\n{colour.removeprefix('for colour pictures also ')}\n{SAVE}"
    )
    exec(statements, {})
    assert np.array_equal(data.load("images.npz").test.numpy(), pictures[1100:].transpose(0, 3, 1, 2))


def test_capital_letters_of_an_ending_do_not_matter(files):
    assert data.load("COPY.NPZ").image_shape == (1, 6, 5)


@pytest.mark.parametrize(
    "argv", [["--dataset", "MNIST"], ["--dataset", "images.npy"], ["sweep", "--vary", "dataset=x"]]
)
def test_a_wrong_file_is_an_error_before_torch_is_imported(argv, files):
    done = subprocess.run([sys.executable, "-X", "importtime", ROOT / "run.py", *argv], capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 1 and "vampyro.catalogue.specs" in imported and not {"torch", "numpy"} & imported
    assert "error: --dataset: no" in done.stderr or "error: --dataset: 'images.npy'" in done.stderr


@pytest.mark.parametrize(
    "command", [["--dataset", "mnist"], ["score", "a-run"], ["sample", "a-run"], ["export", "a-run"]]
)
def test_a_data_dir_that_is_no_folder_is_an_error(command, files):
    for name, fragment in {"file": "is a file", "loop": "symbolic links", "file/x": "Not a directory"}.items():
        status, message = ended([*command, "--data-dir", name])
        assert status == 1 and message.startswith("error: --data-dir: ") and fragment in message
        with pytest.raises(DataError, match=fragment):
            data.load("mnist", root=name)
