"""Variational auto-encoders as Pyro programs.

>>> import vampyro as vp
>>> model, guide = vp.assemble(prior="vamp:10", flow="planar:2", latent=2, hidden=(32,))
>>> model(batch=3).shape
torch.Size([3, 1, 28, 28])

Every name below is imported when it is first used: `import vampyro` does not import torch.
"""

import importlib
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

# module → the names that it defines
_NAMES = {
    "catalogue.assemble": ["assemble"],
    "catalogue.saving": ["save", "load"],
    "catalogue": ["Part"],
    "models": ["VAE", "TwoLevel"],
    "guides": ["Guide", "TwoLevelGuide"],
    "priors": ["StandardNormal", "MixtureOfGaussians", "VampPrior", "FlowPrior"],
    "training": ["fit", "make_update", "EarlyStopping"],
    "objectives": ["KLWeight"],
    "likelihood": ["score", "ais", "posterior_draws"],
    "diagnostics": ["decompose"],
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = ("data", "distributions", "flows", "nets", "plots")
__all__ = [*_MODULE_OF, *_MODULES]

if not Path(__file__).with_name("models").is_dir():  # in a checkout models/, guides/ and priors/ lie at its top
    __path__.append(str(Path(__file__).parents[1]))


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"vampyro.{name}")
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"vampyro.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'vampyro' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
