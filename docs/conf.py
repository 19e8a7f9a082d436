"""The documentation site: `pip install -r docs/requirements-docs.txt`, then `sphinx-build -W docs docs/_build`."""

import importlib
import pkgutil
import re
import shutil
from pathlib import Path

DOCS = Path(__file__).parent

LINKS = {  # the README's, as they are here
    "examples/README.md": "lessons.md",
    "examples/09_your_own_parts.py": "lessons/09_your_own_parts.py",
    "CONTRIBUTING.md": "contributing.md",
    "CITATION.cff": "https://citation-file-format.github.io",
    "docs/results/": "results.md",
    "docs/": "",
}

# The packages of the reference, from what a user meets first to what lies below it.
PACKAGES = ["catalogue", "models", "guides", "priors", "flows", "nets", "distributions", "objectives", "training"]
PACKAGES += ["likelihood", "diagnostics", "metrics", "data", "plots", "programs"]

project, author, copyright = "vampyro", "the vampyro authors", "the vampyro authors"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb"]
exclude_patterns = ["_build", "conf.py", "first_run.py", "readme.md"]
html_theme = "furo"
html_title = "vampyro"
html_theme_options = {"source_view_link": None}

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
# The lessons are scripts; the site runs them and shows what they show.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars and their warnings

default_role = "code"  # docstrings say `name` for code
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_class_signature = "mixed"
autodoc_inherit_docstrings = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
linkcheck_ignore = [r"https://arxiv\.org/.*"]  # many, and slow to answer


def copy_pages(app):
    """Copy what Sphinx cannot read outside docs/: the lessons, the README and CONTRIBUTING."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for link, here in LINKS.items():
        readme = readme.replace(f"]({link}", f"]({here}")
    (DOCS / "readme.md").write_text(readme, encoding="utf-8")
    shutil.copy(DOCS.parent / "CONTRIBUTING.md", DOCS / "contributing.md")
    target = DOCS / "lessons"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for lesson in sorted((DOCS.parent / "examples").glob("[0-9]*.py")):
        shutil.copy(lesson, target)


def write_reference(app):
    """Write a page for every package, with a section for every module, from their docstrings."""
    folder = DOCS / "api"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for package in PACKAGES:
        module = importlib.import_module(f"vampyro.{package}")
        names = [name for _, name, _ in pkgutil.walk_packages(module.__path__, f"{module.__name__}.")]
        page = f"# `{module.__name__}`\n\n{module.__doc__}\n"
        for name in names:
            page += f"\n## `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n"
        (folder / f"{package}.md").write_text(page, encoding="utf-8")
    pages = "\n".join(PACKAGES)
    about = "Every package, from its docstrings. The tests run the examples in them."
    (folder / "index.md").write_text(f"# Reference\n\n{about}\n\n```{{toctree}}\n{pages}\n```\n", encoding="utf-8")


def escape(app, what, name, obj, options, lines):
    """Docstrings are plain text with `names` and doctests: a |J| or a z* in one is no markup."""
    example = False
    for number, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            parts = line.split("`")
            parts[::2] = [re.sub(r"([*|]|_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
            for after in range(2, len(parts), 2):  # `name`s is one word to us, and to docutils an open quotation
                parts[after] = re.sub(r"^(?=\w)", r"\\ ", parts[after])
            line = re.sub(r": (?=[A-Z]\.$)", r": \\", "`".join(parts))  # nor is "K." the eleventh of a list
            lines[number] = re.sub(r"arXiv:(\d+\.\d+)", r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", line)


def setup(app):
    app.connect("autodoc-process-docstring", escape, priority=400)  # before napoleon reads it
    app.connect("config-inited", lambda app, config: copy_pages(app))
    app.connect("config-inited", lambda app, config: write_reference(app))
