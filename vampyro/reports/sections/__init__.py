"""The measures of a finished run: a module for each, with its row `SECTION` and `measure(subject)`.

No module imports torch before `measure` is called, so that `run.py score --help` is instant.
"""

from importlib import import_module
from pkgutil import iter_modules

from vampyro.reports.section import Section

_ROWS: dict[str, Section] = {
    module.name: import_module(f"{__name__}.{module.name}").SECTION for module in iter_modules(__path__)
}
SECTIONS = dict(sorted(_ROWS.items(), key=lambda row: row[1].position))
