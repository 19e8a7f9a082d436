"""Plain torch: bodies (input → features) and heads (features → distribution)."""

from nets.conv import ConvDecoder, ConvEncoder
from nets.heads import NormalHead
from nets.join import Join
from nets.likelihoods import BernoulliHead, ContinuousBernoulliHead, LogisticHead, NormalImageHead
from nets.mlp import MLP
from nets.small_conv import SmallConvDecoder, SmallConvEncoder

__all__ = [
    "MLP",
    "BernoulliHead",
    "ContinuousBernoulliHead",
    "ConvDecoder",
    "ConvEncoder",
    "Join",
    "LogisticHead",
    "NormalHead",
    "NormalImageHead",
    "SmallConvDecoder",
    "SmallConvEncoder",
]
