"""q(z | x): Pyro guide programs."""

from guides.amortized import Guide

__all__ = ["Guide"]
