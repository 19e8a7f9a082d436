"""The lessons: each runs as it is, and reaches the number that it promises."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
LESSONS = sorted(EXAMPLES.glob("[01]*.py"))
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def cells(text):
    """[(whether it is prose, its text), …], without the header."""
    parts = re.split(r"^# %%(.*)$", text, flags=re.MULTILINE)[1:]
    return [("[markdown]" in kind, body.strip("\n")) for kind, body in zip(parts[::2], parts[1::2])]


def run(*command, folder):
    """In `folder`, with this checkout first, on one thread and without a window."""
    settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env=os.environ | settings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_there_are_ten_and_the_table_has_them():
    assert [path.stem[:2] for path in LESSONS] == [f"{n:02}" for n in range(1, 11)]
    table = (EXAMPLES / "README.md").read_text()
    assert [path.name for path in LESSONS if f"]({path.name})" not in table] == []


@each_lesson
def test_it_reaches_its_number(path, tmp_path):
    *_, last = run(path, folder=tmp_path).strip().splitlines()
    found = re.match(r"expected (\S+) ± (\S+), got (\S+) \(.+\)$", last)
    assert found, f"the last line says what the reader should get: {last!r}"
    expected, tolerance, got = map(float, found.groups())
    assert abs(got - expected) <= tolerance
    pictures = list((tmp_path / "figures").glob(f"{path.stem[:2]}_*.png"))
    assert pictures and all(picture.stat().st_size > 3000 for picture in pictures)


@each_lesson
def test_it_is_a_lesson(path):
    """An equation before any code, code that checks itself, exercises at the end; a notebook by its header."""
    text = path.read_text()
    header, end, _ = text.removeprefix("# ---\n# jupyter:\n").partition("\n# ---\n\n# %% [markdown]\n")
    assert end and header.count("\n") < 10 and "format_name: percent" in header and "name: python3" in header
    lesson = cells(text)
    (first_is_prose, first), (last_is_prose, last) = lesson[0], lesson[-1]
    assert first_is_prose and "$$" in first and re.match(rf"# # {int(path.stem[:2])} · ", first)
    assert last_is_prose and last.startswith("# ## Exercises")
    assert 2 <= len(re.findall(r"^# \d\. ", last, flags=re.MULTILINE)) <= 4
    for is_prose, body in lesson:
        if is_prose:
            assert all(line.startswith("#") for line in body.splitlines()), body
            assert body.count("$") % 2 == 0, body
        else:
            ast.parse(body)
    code = "\n".join(body for is_prose, body in lesson if not is_prose)
    assert "assert " in code and code.count("savefig(") >= 1


@each_lesson
def test_it_opens_as_a_notebook(path):
    jupytext = pytest.importorskip("jupytext", reason="examples/requirements-examples.txt is not installed")
    notebook = jupytext.read(path)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    kinds = [cell.cell_type == "markdown" for cell in notebook.cells]
    assert kinds == [is_prose for is_prose, _ in cells(path.read_text())]


def test_the_explorer_runs(tmp_path):
    """Every cell, once, with nobody at the sliders."""
    pytest.importorskip("marimo", reason="examples/requirements-examples.txt is not installed")
    run(EXAMPLES / "explore.py", folder=tmp_path)


def test_the_explorer_names_what_is_there():
    """Where marimo is not installed: its specs are read, and what it imports of ours exists."""
    from vampyro.catalogue.specs import parse

    tree = ast.parse((EXAMPLES / "explore.py").read_text())
    offered = [
        ast.literal_eval(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "mo.ui.dropdown"
    ]
    priors, flows = offered
    assert [parse("prior", prior).name for prior in priors] and [parse("flow", flow).name for flow in flows]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
