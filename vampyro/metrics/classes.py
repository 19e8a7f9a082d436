"""The classes of samples, and how evenly they are distributed."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vampyro.metrics.classifier import evaluate


def class_distribution(
    classifier: Callable[[Tensor], Tensor], samples: Float[Tensor, " n *image"]
) -> Float64[Tensor, " classes"]:
    """Return p(y) = 1/N Σ_n p(y | x_n), the shares of the classes (Salimans et al. 2016, arXiv:1606.03498), on the CPU.

    A doubtful sample counts for several classes, each by its probability. An image that shows no digit also gets a
    class: this finds missing classes, not bad images. The classifier maps images to logits (N, classes).

    >>> logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    >>> class_distribution(lambda x: logits, torch.zeros(2, 1, 1, 1))
    tensor([0.6250, 0.3750], dtype=torch.float64)
    """
    return evaluate(classifier, samples).double().softmax(1).mean(0).cpu()


def total_variation(p: Tensor, q: Tensor | None = None) -> float:
    """Return ½ Σ_y |p(y) - q(y)|: 0 for equal distributions, 1 for disjoint ones; q is uniform unless given.

    Raises:
        ValueError: p or q is not a distribution (classes,), or their shapes differ.

    >>> total_variation(torch.tensor([1.0, 0.0]))
    0.5
    """
    p = _probabilities(p)
    q = torch.full_like(p, 1 / len(p)) if q is None else _probabilities(q)
    if p.shape != q.shape:
        raise ValueError(f"got distributions over {len(p)} and {len(q)} classes, expected as many")
    return 0.5 * (p - q).abs().sum().item()


def entropy(p: Tensor) -> float:
    """Return -Σ_y p(y) log p(y) in nats: 0 for a single class, log(classes) for equal shares.

    Raises:
        ValueError: p is not a distribution (classes,).

    >>> math.exp(entropy(torch.tensor([0.5, 0.0, 0.5])))
    2.0
    """
    return torch.special.entr(_probabilities(p)).sum().item()


def _probabilities(p: Tensor) -> Tensor:
    p = p.double().cpu()
    if p.ndim != 1 or not (p >= 0).all() or not math.isclose(p.sum().item(), 1, abs_tol=1e-5):
        raise ValueError(
            f"got values in [{p.min():g}, {p.max():g}] of shape {tuple(p.shape)} that sum to {p.sum():g}, expected "
            "probabilities of shape (classes,) that sum to 1: divide counts by their sum"
        )
    return p
