"""Training of any pair of Pyro programs (model, guide)."""

from vampyro.training.engines.make import make_update
from vampyro.training.engines.svi import register
from vampyro.training.fit import fit
from vampyro.training.nan_diagnosis import diagnose
from vampyro.training.schedules import Cooldown, EarlyStopping
from vampyro.training.validation import elbo_parts, validation

__all__ = ["Cooldown", "EarlyStopping", "diagnose", "elbo_parts", "fit", "make_update", "register", "validation"]
