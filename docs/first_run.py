"""The picture of the README: python docs/first_run.py RUN, where RUN is the folder of its first command."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import vampyro as vp

COUNT = 14

model, guide = vp.load(sys.argv[1])
images = vp.data.load("mnist5k")
torch.manual_seed(1)
x = images.images("test")[:COUNT]
with torch.no_grad():
    rows = {
        "test images": x,
        "reconstructions": model.decoder(guide.q(x).sample()).mean,
        "samples from\nthe VampPrior": model.decoder(model.prior().sample((COUNT,))).mean,
    }
figure, axes = plt.subplots(len(rows), 1, figsize=(11, 2.6), layout="constrained")
for axis, (label, row) in zip(axes, rows.items()):
    axis.imshow(torch.cat(list(row[:, 0]), dim=1), cmap="gray_r", vmin=0, vmax=1)
    axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=12)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
figure.savefig(Path(__file__).parent / "images" / "first_run.png", dpi=100)
