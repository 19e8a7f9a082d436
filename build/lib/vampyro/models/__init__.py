"""p(x, z): Pyro model programs."""

import sys

from vampyro.models.two_level import TwoLevel
from vampyro.models.vae import VAE

__all__ = ["TwoLevel", "VAE"]

if __name__ == "models":  # imported by its short name, from a checkout: the same modules and classes under both names
    for name in ("two_level", "vae"):
        sys.modules[f"models.{name}"] = sys.modules[f"vampyro.models.{name}"]
