"""Variational auto-encoders as Pyro programs.

>>> import vampyro as vp
>>> model, guide = vp.assemble(prior="vamp:10", flow="planar:2", latent=2, hidden=(32,))
>>> model(batch=3).shape
torch.Size([3, 1, 28, 28])

Every name below is imported when it is first used: `import vampyro` does not import torch.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the names below, for editors and type checkers
    from vampyro import data, distributions, flows, nets, plots
    from vampyro.catalogue import Part
    from vampyro.catalogue.assemble import assemble
    from vampyro.catalogue.saving import load, save
    from vampyro.diagnostics import decompose
    from vampyro.guides import Guide, TwoLevelGuide
    from vampyro.likelihood import ais, posterior_draws, score
    from vampyro.models import VAE, TwoLevel
    from vampyro.objectives import KLWeight
    from vampyro.priors import FlowPrior, MixtureOfGaussians, StandardNormal, VampPrior
    from vampyro.training import EarlyStopping, fit, make_update

# name → the module that defines it
_NAMES = {
    "assemble": "vampyro.catalogue.assemble",
    "save": "vampyro.catalogue.saving",
    "load": "vampyro.catalogue.saving",
    "Part": "vampyro.catalogue",
    "VAE": "vampyro.models",
    "TwoLevel": "vampyro.models",
    "Guide": "vampyro.guides",
    "TwoLevelGuide": "vampyro.guides",
    "StandardNormal": "vampyro.priors",
    "MixtureOfGaussians": "vampyro.priors",
    "VampPrior": "vampyro.priors",
    "FlowPrior": "vampyro.priors",
    "fit": "vampyro.training",
    "make_update": "vampyro.training",
    "KLWeight": "vampyro.objectives",
    "EarlyStopping": "vampyro.training",
    "score": "vampyro.likelihood",
    "ais": "vampyro.likelihood",
    "posterior_draws": "vampyro.likelihood",
    "decompose": "vampyro.diagnostics",
}
_MODULES = ("data", "distributions", "flows", "nets", "plots")
__all__ = [*_NAMES, *_MODULES]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"vampyro.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'vampyro' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


class _Checkout:
    """Finds vampyro.models, vampyro.guides and vampyro.priors in a checkout, where they are folders of its top."""

    folders = {f"vampyro.{name}": Path(__file__).parents[1] / name for name in ("models", "guides", "priors")}

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in cls.folders:
            return None
        folder = cls.folders[name]
        return spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])


if not Path(__file__).with_name("models").is_dir():  # an installed package holds them
    sys.meta_path.insert(0, _Checkout)
