"""The command `sample`: sample images from a finished run, as a picture and as arrays."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vampyro.catalogue.parts import MAX_COUNT
from vampyro.errors import SpecError
from vampyro.runs.arguments import COUNT, Parser, file, number
from vampyro.runs.config import check_data

if TYPE_CHECKING:
    from torch import Tensor

MAX_SHOWN = 10_000  # images, at most, in the picture; FILE.npz holds all
BYTES_PER_PIXEL = 16  # while it is drawn


def labels(text: str) -> list[int]:
    """An argparse type: `7` → [7], and `3,8` → [3, 8]."""
    return [number(int, 0, MAX_COUNT)(part) for part in text.split(",")]


def parser() -> Parser:
    p = Parser(
        prog="run.py sample",
        description="Sample images from the best epoch of a run: z ~ p(z), and the means of p(x | z).",
    )
    p.add_run()
    p.add_argument(
        "--label",
        help="for a conditional run: one class, or several in turn, for example 3,8 (default: all)",
        type=labels,
        metavar="Y",
        default=None,
    )
    p.add_prior()
    p.add_argument("--count", help="number of images (default: 64)", **COUNT, default=64)
    p.add_argument("--draws", help="also sample the pixels from p(x | z)", action="store_true", default=False)
    p.add_argument("--out", help="FILE.png (default: drawn.png in the folder of the run)", **file(".png"), default=None)
    p.add_argument("--npz", help="also write the array `images` and, for a conditional run, `labels`", **file(".npz"))
    p.add_data_dir("folder of the data sets, for another --prior (default: the run's)")
    p.add_machine("draws")
    return p


def main(argv: Sequence[str]) -> None:
    given = parser().named_settings(argv)
    check_data(given)
    from vampyro.runs.scoring import products_of  # torch comes with it: not before the flags are read

    with products_of(given["run"]):
        sample(**given)


def sample(
    run: str,
    label: list[int] | None,
    prior: str,
    count: int,
    draws: bool,
    out: Path | None,
    npz: Path | None = None,
    device: str = "auto",
    seed: int | None = None,
    data_dir: str | None = None,
) -> None:
    """Write the picture and optionally FILE.npz, and print their paths."""
    import torch

    from vampyro import plots
    from vampyro.catalogue.saving import load
    from vampyro.memory import check_fits, memory_for
    from vampyro.programs.randomness import seeded
    from vampyro.runs.device import find_device
    from vampyro.runs.folder import Folder, FolderError
    from vampyro.runs.results import read_config
    from vampyro.runs.run_plots import generate
    from vampyro.runs.scoring import load_trained

    config = read_config(run)
    check_fits(f"--count {count}", BYTES_PER_PIXEL * count * math.prod(config.shape), "choose a smaller number")
    y = parse_labels(run, config.classes, label, count)
    place = find_device(device)
    programs = (
        load(run) if prior == "own" else load_trained(run, prior, data_dir)[-2:]
    )  # the trained prior needs no images
    model, _ = (program.to(place) for program in programs)  # the guide too, where a prior borrows it
    seed = config.seed if seed is None else seed
    with memory_for(f"sampling {count} images", "--count"), torch.no_grad(), seeded(seed, device=place):
        p = generate(model, count, y)
        images = (p.sample() if draws else p.mean).cpu()
    out, columns = out or Path(run) / "drawn.png", None
    if config.classes is not None and label is None and config.classes <= min(count, 20):
        columns = config.classes  # a column for each
    title = f"{'samples of' if draws else 'means of'} p(x | z{'' if y is None else ', y'}), z ~ p(z)"
    title += "" if count <= MAX_SHOWN else f", the first {MAX_SHOWN} of {count}"
    title += "" if prior == "own" else f" = {prior}"
    title += "" if label is None else f", y = {', '.join(map(str, label))}"
    try:
        with memory_for("drawing the picture", "--count"):
            Folder(out.parent).save_figure(out.name, plots.image_grid(images[:MAX_SHOWN], columns, title))
        print(out)
        if npz is not None:
            arrays = {"images": images.numpy()} | ({} if y is None else {"labels": y.numpy()})
            Folder(npz.parent).write_arrays(npz.name, **arrays)
            print(npz)
    except OSError as error:
        raise FolderError(f"cannot write {error.filename or out}: {error.strerror}") from None


def parse_labels(run: str, classes: int | None, label: list[int] | None, count: int) -> "Tensor | None":
    """Return the labels of `count` images, (count,), or None for a run without labels."""
    import torch

    if classes is None:
        if label is not None:
            raise SpecError(f"--label {label[0]}: {run} was not trained with labels; train one with --condition label")
        return None
    if label is not None and max(label) >= classes:
        raise SpecError(f"--label {max(label)}: expected a label from 0 to {classes - 1} for {run}")
    choice = torch.arange(classes) if label is None else torch.tensor(label)
    return choice[torch.arange(count) % len(choice)]
