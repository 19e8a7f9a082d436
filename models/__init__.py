"""p(x, z): Pyro model programs."""

from models.vae import VAE

__all__ = ["VAE"]
