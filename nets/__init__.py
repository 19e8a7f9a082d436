"""Plain torch: bodies (input → features) and heads (features → distribution)."""

from nets.baseline import Baseline
from nets.conditional import ConditionalDecoder, ConditionalEncoder
from nets.conv import ConvDecoder, ConvEncoder
from nets.heads import BinaryHead, DeltaHead, NormalHead
from nets.join import Join
from nets.likelihoods import BernoulliHead, ContinuousBernoulliHead, LogisticHead, NormalImageHead
from nets.mlp import MLP
from nets.quantiser import VectorQuantiser
from nets.small_conv import SmallConvDecoder, SmallConvEncoder

__all__ = [
    "MLP",
    "Baseline",
    "BernoulliHead",
    "BinaryHead",
    "ConditionalDecoder",
    "ConditionalEncoder",
    "ContinuousBernoulliHead",
    "ConvDecoder",
    "ConvEncoder",
    "DeltaHead",
    "Join",
    "LogisticHead",
    "NormalHead",
    "NormalImageHead",
    "SmallConvDecoder",
    "SmallConvEncoder",
    "VectorQuantiser",
]
