"""Inverse autoregressive flow: each element is moved by what the elements before it say."""

from torch import Tensor, nn

from vampyro.flows.coupling import affine
from vampyro.flows.sequential import invert
from vampyro.flows.transform import Flow, NetBijection
from vampyro.nets.context import ContextMLP, autoregressive

UNITS = 4  # hidden units that see the first d elements, for each d = 0 … latent - 1


class IAF(NetBijection):
    """x_i → x_i exp(s_i) + t_i, (s_i, t_i) = net_l(x_1 … x_{i-1}), l = 1…L, in reversed order from layer to layer.

    Kingma et al. 2016, arXiv:1606.04934; log |det| = Σ_l Σ_i s_i. Forward all elements move at once. Backward
    they become known one by one, in `latent` small steps that together multiply no more than the map does:
    see `flows.sequential`.

    At trained scales (4 layers, 40 latents) float32 is off by 5e-6: points and log-determinants, there and back.

    Args:
        nets: a masked `Perceptron` for each layer, with `nets.context.autoregressive`'s masks.
    """

    def push(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        log_det: Tensor | float = 0.0
        for net in self.nets:
            s, t = net(x).to(x.dtype).unflatten(-1, (2, x.shape[-1])).unbind(-2)
            x, s = affine(x, s, t)
            x, log_det = x.flip(-1), log_det + s.sum(-1)
        return x, log_det

    def pull(self, y: Tensor) -> tuple[Tensor, Tensor | float]:
        log_det: Tensor | float = 0.0
        for net in reversed(self.nets):
            y, change = invert(y.flip(-1), *net, UNITS)
            log_det = log_det + change
        return y, log_det


class IAFFlow(Flow):
    """h → IAF, its nets told h; with `shared` one map for all h.

    >>> import torch
    >>> IAFFlow(features=300, latent=40, length=4)(torch.zeros(7, 300))
    IAF(length=4)
    """

    def __init__(self, features: int, latent: int, length: int = 4, shared: bool = False):
        super().__init__(length, shared)
        self.latent = latent
        masks = autoregressive(latent, 1, UNITS, 1, repeat=2)
        self.nets = nn.ModuleList(
            ContextMLP(latent, features, 2 * latent, UNITS * latent, shared, masks) for _ in range(length)
        )

    def forward(self, h: Tensor | None) -> IAF:
        return IAF([net(h) for net in self.nets], self.latent)
