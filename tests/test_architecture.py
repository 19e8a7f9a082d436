"""The rooms of the house: imports point only downward, files stay short, and only jobs print."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
JOBS = {"jobs", "run"}
GROUND = {"capacity", "distributions", "latent_plots", "plots", "specs", "sweep_plots"}
ALLOWED = {
    **{room: set() for room in GROUND},
    "nets": {"distributions"},
    "flows": {"nets", "distributions"},
    "priors": {"nets", "flows", "distributions"},
    "guides": {"nets", "flows", "distributions"},
    "models": {"distributions"},
    "inference": {"capacity", "distributions"},
    "measures": {"data", "inference"},
    "supports": {"specs"},
    "sources": {"specs"},
    "data": {"capacity", "sources", "specs"},
    "builders": {"priors", "flows", "nets", "distributions", "inference", "specs"},
}
ROOMS = {*ALLOWED, "assemble", *JOBS}
ALLOWED |= {"assemble": ROOMS - JOBS, "jobs": ROOMS - {"run"}, "run": {"specs", "jobs"}}
OUTSIDE = {"conftest", "tests", "examples", "benchmarks", "docs"}  # may import anything, and print
PARTS = {"models", "guides", "priors", "flows", "nets", "distributions"}


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def sources():
    """Every .py file of the checkout, hidden folders and those of finished runs and builds left out."""
    for path in sorted(ROOT.rglob("*.py")):
        folders = path.relative_to(ROOT).parts[:-1]
        if not any(folder.startswith(".") or folder in ("runs", "build", "dist", "venv") for folder in folders):
            yield path


FILES = list(sources())
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
each_inner_file = pytest.mark.parametrize(
    "path", [p for p in FILES if room_of(p) not in OUTSIDE], ids=lambda path: str(path.relative_to(ROOT))
)


def imported_rooms(source):
    """The rooms that a file imports anywhere, also inside functions and by `importlib.import_module("…")`."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "import_module",
            "__import__",
        ):
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    assert not any(name.startswith(".") for name in names), "write imports in full: from room.file import name"
    return {name.split(".")[0] for name in names} & ROOMS


def prints(source):
    """The lines that call print."""
    nodes = ast.walk(ast.parse(source))
    return [
        n.lineno for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "print"
    ]


def docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value


def devices(source):
    """The lines that name CUDA: `.cuda(…)`, or a literal "cuda" outside docstrings."""
    tree = ast.parse(source)
    spared = set(map(id, docstrings(tree)))
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "cuda":
            lines.append(node.lineno)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in spared:
            lines += [node.lineno] * (node.value.split(":")[0] == "cuda")
    return lines


@each_inner_file
def test_imports_point_only_downward(path):
    room = room_of(path)
    assert room in ROOMS, f"a new room: say in {Path(__file__).name} what it may import"
    assert imported_rooms(path.read_text()) <= ALLOWED[room] | {room}


@each_file
def test_files_are_short(path):
    if room_of(path) not in ("tests", "examples"):
        assert len(path.read_text().splitlines()) <= 300


@each_inner_file
def test_only_jobs_print(path):
    if room_of(path) not in JOBS:
        assert prints(path.read_text()) == []


@each_inner_file
def test_parts_do_not_know_their_device(path):
    if room_of(path) in PARTS and path.name != "gemm.py":  # whose subject is the devices' arithmetic
        assert devices(path.read_text()) == []


def test_every_room_is_there():
    assert {room_of(path) for path in FILES} >= ROOMS


SAMPLE = '''
"""import data; print("cuda")"""
import torch, guides.amortized as g
from os import path
def f():
    """from models import VAE; print()"""
    from priors.vamp import VampPrior
    importlib.import_module("jobs.train")
    print(torch.zeros(1).cuda(), "cuda:0", "barracuda", "import flows")
'''


def test_the_rules_see_what_they_forbid():
    assert imported_rooms(SAMPLE) == {"guides", "priors", "jobs"}
    assert prints(SAMPLE) == [9]
    assert devices(SAMPLE) == [9, 9]
    with pytest.raises(AssertionError, match="in full"):
        imported_rooms("from . import sibling")
