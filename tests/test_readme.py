"""What the README promises runs."""

import re
import shlex
from code import InteractiveConsole
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_train import call
from vampyro import data

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\| [^|]+ \| `python run\.py ?([^`]*)` \|$", README, flags=re.MULTILINE)
SMALL = ["--hidden", 8, "--epochs", 1, "--samples", 2, "--test-images", 5, "--device", "cpu"]


def test_the_two_main_commands_are_there():
    commands = re.findall(r"^    (\S.*)$", README, flags=re.MULTILINE)
    assert commands[0] == "pip install -r requirements.txt && python run.py --prior vamp --flow planar:5"
    assert "pip install -r requirements.txt && python -m pytest -n auto --dist worksteal" in commands


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A file of labelled digits: 500 to train on, 100 in each of the other splits."""
    images, file = data.load("mnist5k"), tmp_path_factory.mktemp("readme") / "digits.npz"
    arrays = {}
    for split in ("train", "valid", "test"):
        count = 500 if split == "train" else 100
        arrays[split] = getattr(images, split)[:count].numpy()
        arrays[f"{split}_labels"] = images.labels_of(split)[:count].numpy()
    np.savez(file, **arrays)
    return file


@pytest.fixture(scope="module")
def trained(digits):
    """A folder that a small run has left."""
    folder = digits.parent / "run"
    assert call("--dataset", digits, *SMALL, "--latent", 2, "--out", folder) is None
    return folder


def test_the_table_of_commands_is_found():
    assert len(COMMANDS) > 15 and "" in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_the_table_runs(command, trained, digits, tmp_path):
    """On few images, with smaller settings after those of the table, which override them where both are given."""
    files = {"RUN": trained, "FILE.npz": digits}
    words = [files.get(word, word) for word in shlex.split(command)]
    small = ["--dataset", digits, *SMALL, "--out", tmp_path / "run"]
    match words[:1]:
        case ["score"]:
            words += ["--images", 5, "--temperatures", 2]
        case ["sweep"]:
            words = ["sweep", "--vary", "prior=standard", "--seeds", 1, *small]
        case ["--resume"]:
            words[-1] = 2
        case ["export"]:
            pytest.importorskip("arviz", reason="arviz is in requirements-extras.txt")
        case ["sample"] | ["reproduce"]:
            pass
        case _:
            words += small
    assert call(*words) in (None, 0)


def test_the_session_at_the_prompt_runs(capsys, tmp_path, monkeypatch):
    """One namespace, block after block, as a reader would type them; with fewer epochs and samples."""
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        console = InteractiveConsole(namespace)
        for line in block.replace("epochs=5", "epochs=1").replace("samples=100", "samples=2").splitlines():
            more = console.push(line)
        assert not more
    written = capsys.readouterr()
    assert "Error" not in written.err and written.out.startswith("1 ")
    assert namespace["svi"].step(namespace["x"][:10]) > 0


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)]+)\)", README))))
def test_its_links_lead_somewhere(path):
    assert (ROOT / path).exists()
