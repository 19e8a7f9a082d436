"""How far the features of samples are from those of data."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vampyro.data.mnist import torchvision
from vampyro.metrics.classifier import CHUNK
from vampyro.programs.modes import evaluation_mode


class _Features(nn.Module):
    """The feature extractor as torchmetrics wants it; in double, since the distance comes in its features' dtype."""

    def __init__(self, classifier, num_features):
        super().__init__()
        self.classifier, self.num_features = classifier, num_features

    def forward(self, images):
        return self.classifier.features(images).double()


@torch.no_grad()
def classifier_frechet_distance(classifier, images: Float[Tensor, " n *image"], samples: Float[Tensor, " m *image"]):
    """‖m - m'‖² + tr(C + C' - 2 (C C')^½), of the means and covariances of a classifier's features.

    The formula of the Fréchet Inception distance (Heusel et al. 2017, arXiv:1706.08500) on the penultimate layer of
    *this* classifier, not of the Inception network: its figures compare with those of the same trained classifier
    alone, and with no published FID. It is biased upwards, the more so the fewer images there are, so compare at
    equal numbers. The distance between two halves of the data says what is as good as zero.

    A covariance of d features has full rank from d + 1 images on, and is a good estimate with many times as many;
    with fewer the distance says more of their number than of them.

    Args:
        classifier: has `features`, images (N, …) → (N, d).
        images: of the data, (N, channels, height, width).
        samples: (M, channels, height, width), of the same kind: compare draws with bits, and means with grey images.

    Returns:
        a float, 0 or more, in squared units of the features.

    Raises:
        ValueError: where images or samples are not more than the features, or not finite.

    >>> from vampyro.metrics import Classifier
    >>> x = torch.rand(50, 1, 4, 4)
    >>> classifier_frechet_distance(Classifier((1, 4, 4), hidden=8), x, x) < 1e-6
    True
    """
    # Imported when needed, as it takes a while. It imports torchvision itself, and may stop there.
    torchvision()
    from torchmetrics.image.fid import FrechetInceptionDistance

    for name, batch in ("images", images), ("samples", samples):
        if not batch.isfinite().all():
            raise ValueError(f"the {name} have pixels that are not finite, expected [0, 1]")
    with evaluation_mode(classifier):
        size = classifier.features(images[:1]).shape[-1]
        for name, batch in ("images", images), ("samples", samples):
            if len(batch) <= size:
                raise ValueError(
                    f"{len(batch)} {name} give no covariance of {size} features: at least {size + 1} are needed, "
                    "better ten times as many; draw more, or train a classifier with fewer hidden units"
                )
        # Images reach an extractor of one's own as they are, with no scaling to bytes.
        metric = FrechetInceptionDistance(_Features(classifier, size)).to(images.device)
        for real, batch in (True, images), (False, samples):
            for x in batch.split(CHUNK):
                metric.update(x, real=real)
        return max(0.0, metric.compute().item())  # rounding may leave it just below
