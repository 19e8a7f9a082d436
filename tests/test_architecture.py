"""The structure of the package: imports point only downward, the list of packages is complete, only commands print."""

import ast
from pathlib import Path

import pytest

from vampyro.files import read_toml

ROOT = Path(__file__).parents[1]
# From the top down; a package may import those after it. Packages on one line do not import each other.
LAYERS = [
    {"cli"},
    {"sweeps"},
    {"reports"},
    {"runs"},
    {"catalogue"},
    {"metrics"},
    {"diagnostics"},
    {"training"},
    {"likelihood"},
    {"objectives"},
    {"programs"},
    {"models", "guides", "priors"},
    {"flows"},
    {"nets"},
    {"distributions"},
    {"data", "plots"},
    {"errors", "files", "memory"},
]
DEPTH = {package: depth for depth, layer in enumerate(LAYERS) for package in layer}
GROUND = LAYERS[-1]  # single modules, which may import each other
PRINTING = {"cli", "sweeps", "reports", "runs"}
DEVICE_FREE = {"models", "guides", "priors", "flows", "nets", "distributions"}


def module_of(path: Path) -> str:
    """Return the full name of a module: vampyro.models.vae of models/vae.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "vampyro" else ("vampyro", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FOLDERS = ("vampyro", "models", "guides", "priors")
MODULES = {module_of(path): path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))}
each_module = pytest.mark.parametrize("name", MODULES)


def package_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def imported(source: str) -> set[str]:
    """Full names of our modules that a source imports anywhere, also inside functions and by `import_module("…")`."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "write imports in full: from vampyro.package.module import name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return {name for name in names if name.split(".")[0] == "vampyro"}


def calls(source: str, function: str) -> list[int]:
    """Line numbers of the calls of a built-in function."""
    nodes = ast.walk(ast.parse(source))
    return [
        n.lineno for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == function
    ]


def docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value


def devices(source: str) -> list[int]:
    """Line numbers of `.cuda(…)`, and of a literal "cuda" outside docstrings."""
    tree = ast.parse(source)
    spared = set(map(id, docstrings(tree)))
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "cuda":
            lines.append(node.lineno)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in spared:
            lines += [node.lineno] * (node.value.split(":")[0] == "cuda")
    return lines


def upward(name: str, source: str) -> set[str]:
    """Imports that point up, or sideways into another package of the same layer."""
    own = package_of(name)
    found = {package_of(other) for other in imported(source)} - {own, ""}
    return {other for other in found if DEPTH[other] <= DEPTH[own] and own not in GROUND}


@each_module
def test_imports_point_downward(name):
    if name in ("vampyro", "vampyro.__main__"):
        pytest.skip("the surface of the package names modules of every layer")
    assert package_of(name) in DEPTH, "a new package: give it a place in LAYERS"
    assert upward(name, MODULES[name].read_text()) == set()


@each_module
def test_only_commands_print(name):
    if package_of(name) not in PRINTING:
        assert calls(MODULES[name].read_text(), "print") == []


@each_module
def test_parts_do_not_know_their_device(name):
    if (
        package_of(name) in DEVICE_FREE and name != "vampyro.distributions.gemm"
    ):  # which compares the devices' precision
        assert devices(MODULES[name].read_text()) == []


# Where a module may ask whether an object of somebody else's has an attribute, and why.
ASKED = {
    "vampyro.cli": "the encoding of a stream that may be no terminal",
    "vampyro.cli.train": "the same",
    "vampyro.runs.signals": "signal.SIGHUP, which Windows lacks",
    "vampyro.programs.layout": "the name of any callable, for an error",
    "vampyro.programs.checks": "torch's leaves of a graph, and Pyro's mark on a tensor of its store",
    "vampyro.training.engines.svi": "Pyro's mark on a tensor of its store",
    "vampyro.diagnostics.local_guide": "the arguments of any torch distribution",
    "vampyro.sweeps.table": "the parts of a figure, an Estimate or a number",
}


def questions(source: str) -> list[int]:
    """Line numbers of `hasattr(…)` and of `getattr` with a default."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    asks = {"hasattr": 2, "getattr": 3}
    return [n.lineno for n in nodes if isinstance(n.func, ast.Name) and len(n.args) == asks.get(n.func.id)]


@each_module
def test_capabilities_are_contracts_and_no_attributes_to_look_for(name):
    """A base class with a default method, or isinstance of one, says what a part can do."""
    if name not in ASKED:
        assert questions(MODULES[name].read_text()) == []


def test_no_two_modules_import_each_other():
    graph = {
        name: {
            other if other in MODULES else other.rpartition(".")[0]
            for other in imported(path.read_text())
            if other in MODULES or other.rpartition(".")[0] in MODULES
        }
        - {name}
        for name, path in MODULES.items()
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a circle: {' → '.join([*above[above.index(name) :], name])}"
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_list_of_packages_is_complete():
    listed = read_toml(ROOT / "pyproject.toml")["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(name for name, path in MODULES.items() if path.name == "__init__.py")


SAMPLE = '''
"""from vampyro import cli; print("cuda")"""
import torch, vampyro.guides.amortized as g
from os import path
def f():
    """from vampyro.models import VAE; print()"""
    from vampyro.priors.vamp import VampPrior
    importlib.import_module("vampyro.cli.train")
    print(torch.zeros(1).cuda(), "cuda:0", "barracuda", "import vampyro.flows")
'''


def test_the_rules_see_what_they_forbid():
    assert imported(SAMPLE) == {"vampyro.guides.amortized", "vampyro.priors.vamp.VampPrior", "vampyro.cli.train"}
    assert upward("vampyro.priors.x", SAMPLE) == {"guides", "cli"}
    assert calls(SAMPLE, "print") == [9]
    assert devices(SAMPLE) == [9, 9]
    assert questions("hasattr(a, 'b')\ngetattr(a, 'b')\ngetattr(a, 'b', None)") == [1, 3]
    with pytest.raises(AssertionError, match="in full"):
        imported("from . import sibling")
