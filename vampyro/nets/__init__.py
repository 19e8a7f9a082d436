"""Plain torch: bodies (input → features) and heads (features → distribution)."""

from vampyro.nets.conditional import ConditionalDecoder, ConditionalEncoder
from vampyro.nets.conv import ConvDecoder, ConvEncoder, SmallConvDecoder, SmallConvEncoder
from vampyro.nets.heads import BinaryHead, DeltaHead, Head, NormalHead
from vampyro.nets.likelihoods import BernoulliHead, ContinuousBernoulliHead, LogisticHead, NormalImageHead
from vampyro.nets.mlp import MLP, Baseline, Join
from vampyro.nets.quantiser import Learner, VectorQuantiser

__all__ = [
    "Baseline",
    "BernoulliHead",
    "BinaryHead",
    "ConditionalDecoder",
    "ConditionalEncoder",
    "ContinuousBernoulliHead",
    "ConvDecoder",
    "ConvEncoder",
    "DeltaHead",
    "Head",
    "Join",
    "Learner",
    "LogisticHead",
    "MLP",
    "NormalHead",
    "NormalImageHead",
    "SmallConvDecoder",
    "SmallConvEncoder",
    "VectorQuantiser",
]
