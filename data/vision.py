"""torchvision, also where its compiled operators do not load."""

import torch

_operators: list[torch.library.Library] = []  # declared where torchvision's own do not load: they last as long as this


def torchvision():
    """The package torchvision, imported, so that others who import it find it sound.

    >>> torchvision().datasets.MNIST.__name__
    'MNIST'
    """
    # Imported when needed, not at the top: it takes a second or more.
    try:
        import torchvision
    except RuntimeError:
        # The wheel of the package index does not load its compiled operators beside a torch that was built without
        # CUDA, and then stops where it describes two of them. Data sets and measures use neither, so it is enough to
        # declare that they exist.
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _operators.append(library)
        import torchvision
    return torchvision
