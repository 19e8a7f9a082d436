"""The weight β of the KL term, with a warm-up."""

import torch
from pyro.poutine.messenger import Messenger


class KLWeight:
    """weight(epoch) = β · min(1, epoch / warmup), epoch = 1, 2, …

    `value` is a scalar tensor on the program's device; a call with the number of an epoch sets it. The weight is never
    0, because without the KL term nothing determines the scale of the posterior.

    >>> weight = KLWeight(beta=1.0, warmup=10)
    >>> weight(3); weight
    KLWeight(0.3, beta=1, warmup=10)
    """

    def __init__(self, beta: float | int = 1.0, warmup: int = 0, device: torch.device | str = "cpu"):
        self.beta, self.warmup = beta, warmup
        self.value = torch.tensor(float(beta), device=device)

    def __call__(self, epoch: int) -> None:
        self.value.fill_(self.beta * min(1.0, epoch / max(self.warmup, 1)))

    def __repr__(self) -> str:
        return f"KLWeight({self.value.item():g}, beta={self.beta:g}, warmup={self.warmup})"


class ScaleLatents(Messenger):
    """Multiply the log-probability of every unobserved site by a weight.

    Applied to model and guide, this multiplies the KL term of the ELBO, E_q[log q(z | x) - log p(z)], but not
    log p(x | z); `poutine.scale` would multiply both.

    >>> model = ScaleLatents(torch.tensor(0.5))(lambda: None)
    """

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = weight

    def _pyro_sample(self, msg):
        if not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.weight
