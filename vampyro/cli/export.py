"""The command `export`: save posterior samples of a finished run for ArviZ."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vampyro.errors import require
from vampyro.files import replacing
from vampyro.runs.arguments import COUNT, Parser, file
from vampyro.runs.config import check_data


def parser() -> Parser:
    p = Parser(
        prog="run.py export",
        description="Sample z ~ p(z | x) for the best epoch of a run, by importance resampling from its guide, and "
        "write a file for arviz.from_netcdf (needs requirements-extras.txt).",
    )
    p.add_run()
    p.add_argument(
        "--images", help="number of images, chosen at random (default: 10)", dest="count", **COUNT, default=10
    )
    p.add_argument("--samples", help="posterior samples per image (default: 1000)", **COUNT, default=1000)
    p.add_argument(
        "--proposals",
        help="samples of the guide per image, from which these are chosen (default: 10 S)",
        **COUNT,
        default=None,
    )
    p.add_argument("--split", help="images to use (default: test)", choices=["train", "valid", "test"], default="test")
    p.add_argument(
        "--out", help="FILE.nc (default: posterior.nc in the folder of the run)", **file(".nc"), default=None
    )
    p.add_data_dir("folder of the data sets (default: the run's)")
    p.add_machine("draws")
    return p


def main(argv: Sequence[str]) -> None:
    given = parser().named_settings(argv)
    check_data(given)
    require("arviz", "export")
    from vampyro.runs.scoring import products_of  # torch comes with it: not before the flags are read

    with products_of(given["run"]):
        export(**given)


def export(
    run: str,
    count: int,
    samples: int,
    proposals: int | None,
    split: str,
    out: Path | None,
    device: str = "auto",
    seed: int | None = None,
    data_dir: str | None = None,
) -> None:
    """Write FILE.nc; print its path, and for how many images the samples are unreliable."""
    from vampyro.likelihood import posterior_draws, scoring_guide
    from vampyro.likelihood.scores import MIN_SAMPLES
    from vampyro.memory import memory_for
    from vampyro.runs.device import check_samples, find_device
    from vampyro.runs.folder import FolderError
    from vampyro.runs.scoring import drawn, load_trained

    place = find_device(device)
    folder, config, _, images, model, guide = load_trained(run, data_dir=data_dir)
    images, model, guide = images.to(place), model.to(place), guide.to(place)
    seed = config.seed if seed is None else seed
    proposal = scoring_guide(model, guide, images.images("valid"), seed=config.seed)
    x = images.images(split)
    index = drawn(len(x), count)
    x = x[index]
    check_samples(model, x, proposals or 10 * samples, "--proposals")
    with memory_for("drawing from the posterior", "--samples", "--proposals", "--images"):
        draws = posterior_draws(model, proposal, x, samples, proposals=proposals, seed=seed)
    attributes: dict[str, Any] = {name: config[name] for name in ("dataset", "model", "prior", "flow", "likelihood")}
    attributes |= {"run": str(run), "split": split, "seed": str(seed), "proposals": draws.score.samples}
    out = out or folder.path / "posterior.nc"
    try:
        with memory_for("writing the draws", "--samples", "--images"):
            write(out, draws, x.cpu(), index, attributes)
    except OSError as error:
        raise FolderError(f"cannot write {error.filename or out}: {error.strerror or error}") from None
    score = draws.score
    print(draws)
    if score.discrete:
        print(
            f"the latents are discrete: {score.samples} proposals of an image contain {score.distinct.median():.0f} "
            "different codes in the median, and a code that the guide does not propose cannot be sampled"
        )
    elif not score.exact and score.samples < MIN_SAMPLES:
        print(f"--proposals {score.samples} are too few to judge the samples: use at least {MIN_SAMPLES}")
    elif score.heavy:
        print(
            f"k̂ > {score.pareto_limit:.2f} for {score.heavy} of {len(x)} images: their samples follow the "
            "guide rather than the posterior"
        )
    print(out)


def write(path: Path, draws: Any, x: Any, index: Any, attributes: dict[str, Any]) -> None:
    """Write posterior: the latents; sample_stats: log_weight; log_likelihood: log p(x | z); observed_data: x;
    importance: k̂, effective sample size and log p̂(x) of each image.

    Dimensions: chain (one), draw, image, and the event's. `index` holds each image's place in its split.
    """
    import warnings

    with warnings.catch_warnings():  # of ArviZ's own next version
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    import xarray

    values = {name: value.cpu().numpy()[None] for name, value in draws.values.items()}
    score = draws.score
    importance = {
        name: ("image", getattr(score, name).numpy())
        for name in ("log_likelihood", "monte_carlo_error", "elbo", "ess", "pareto_k")
    }
    found = arviz.from_dict(
        posterior=values,
        sample_stats={"log_weight": draws.log_weights.numpy()[None]},
        log_likelihood={"x": draws.log_likelihood.numpy()[None]},
        observed_data={"x": x.numpy()},
        coords={"image": index},
        dims={"log_weight": ["image"], "x": ["image"]}
        | {name: ["image", *(f"{name}_dim_{i}" for i in range(z.ndim - 3))] for name, z in values.items()},
        attrs=attributes,
    )
    found.add_groups({"importance": xarray.Dataset(importance, coords={"image": index})}, warn_on_custom_groups=False)
    with replacing(path) as temporary:  # HDF5 opens files by their name
        found.to_netcdf(str(temporary))
