"""q(z | x): Pyro guide programs."""

from guides.amortized import Guide
from guides.two_level import TwoLevelGuide

__all__ = ["Guide", "TwoLevelGuide"]
