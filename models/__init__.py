"""p(x, z): Pyro model programs."""

from models.two_level import TwoLevel
from models.vae import VAE

__all__ = ["VAE", "TwoLevel"]
