"""q(z | x): Pyro guide programs."""

import sys

from vampyro.guides.amortized import AmortizedGuide, Guide
from vampyro.guides.two_level import TwoLevelGuide

__all__ = ["AmortizedGuide", "Guide", "TwoLevelGuide"]

if __name__ == "guides":  # imported by its short name, from a checkout: the same modules and classes under both names
    for name in ("amortized", "two_level"):
        sys.modules[f"guides.{name}"] = sys.modules[f"vampyro.guides.{name}"]
