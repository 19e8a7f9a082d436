"""The weight of the KL term: a constant β, reached by a ramp."""

import torch
from pyro.poutine.messenger import Messenger


class KLWeight:
    """weight(epoch) = β · min(1, epoch / warmup), epoch = 1, 2, …

    One scalar tensor that lives where the program does; calling it with an epoch's number sets it.
    The ramp never starts at 0, where the posterior would lose its scale.

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
    """Multiplies the log-probability of every unobserved site by a weight.

    Round model and guide alike it weighs E_q[log p(z) - log q(z | x)], the KL term of the ELBO, and
    leaves log p(x | z) alone; `poutine.scale` would weigh both.

    >>> model = ScaleLatents(torch.tensor(0.5))(lambda: None)
    """

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = weight

    def _pyro_sample(self, msg):
        if not msg["is_observed"]:
            msg["scale"] = msg["scale"] * self.weight
