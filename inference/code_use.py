"""Which codes of a codebook the posteriors use."""

import torch
from jaxtyping import Float
from torch import Tensor

from inference.components import ComponentUse
from inference.top_level import examined


@torch.no_grad()
def code_use(model, guide, images: Float[Tensor, " images *event"], samples=10, *, seed=0, batch_size=500):
    """1/(NSM) Σ_n Σ_s Σ_m 1(z_nsm = e_k), z_ns ~ q(z | x_n): each code's share, M codes a latent vector.

    `effective` of the result, exp of the shares' entropy, is the codebook's perplexity.

    Args:
        model, guide: Pyro programs over a batch of images; `nn.Module`s are put in evaluation mode meanwhile.
        images: (N, channels, height, width).
        samples: S of z for each image.
        seed: of the samples.
        batch_size: images encoded at a time.

    Raises:
        ValueError: where the prior's distribution has no `one_hot`, S < 1, or as `top_level`.

    >>> from assemble import assemble
    >>> model, guide = assemble(posterior="vq:16", hidden=(8,), latent=8, shape=(1, 4, 4))
    >>> code_use(model, guide, torch.rand(9, 1, 4, 4)).use.shape
    torch.Size([16])
    """
    if samples < 1:
        raise ValueError(f"code_use expects samples ≥ 1, got {samples}")
    with examined(model, guide, images, seed, batch_size) as (name, p, posteriors):
        if not hasattr(p, "one_hot"):
            raise ValueError(f"the prior of {name!r} is a {type(p).__name__}: no codes to count")
        shares = [p.one_hot(q.sample((samples,))).double().mean((0, -2)) for q in posteriors]
    return ComponentUse(name, torch.cat(shares).mean(0))
