"""Plain torch: bodies (input → features) and heads (features → distribution)."""

from nets.heads import BernoulliHead, NormalHead
from nets.mlp import MLP

__all__ = ["MLP", "BernoulliHead", "NormalHead"]
