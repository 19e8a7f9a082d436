"""What the README promises runs."""

import re
from code import InteractiveConsole
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_it_opens_with_the_two_commands():
    commands = re.findall(r"^    (\S.*)$", README, flags=re.MULTILINE)
    assert commands[:2] == [
        "pip install -r requirements.txt && python run.py --prior vamp --flow planar:5",
        "pip install -r requirements.txt && python -m pytest -n auto --dist worksteal",
    ]


def test_the_repl_session_runs(capsys):
    """One namespace, block after block, as a reader would type them; with fewer epochs and samples."""
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        console = InteractiveConsole(namespace)
        for line in block.replace("epochs=5", "epochs=1").replace("samples=100", "samples=2").splitlines():
            more = console.push(line)
        assert not more
    written = capsys.readouterr()
    assert "Error" not in written.err and written.out.startswith("1 ")
    assert namespace["svi"].step(namespace["x"][:10]) > 0


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_its_links_lead_somewhere(path):
    assert (Path(__file__).parents[1] / path).exists()
