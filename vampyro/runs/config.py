"""The flags of a training run, read without importing torch."""

from argparse import SUPPRESS

from vampyro.catalogue.specs import FAMILIES, MANY, parse, usage
from vampyro.catalogue.supports import check_posterior, resolve_objective
from vampyro.data.names import check_folder, check_source, describe_names
from vampyro.errors import SpecError
from vampyro.runs.arguments import COUNT, DEVICES, LARGEST, SEED, Parser, latents, number, path, spec, specs_of, widths

SEVERAL = {
    "flow": "; FLOW1,FLOW2 for z1,z2",
    "activation": "; A,B: B in the last layer of networks that read images",
}


DEFAULTS = {
    "dataset": "mnist5k",
    "data_dir": None,
    "binarize": None,
    "noise": 0.0,
    "model": "vae",
    "net": "mlp",
    "hidden": [300, 300],
    "activation": "gated",
    "latent": 40,
    "likelihood": "bernoulli",
    "prior": "standard",
    "posterior": "normal",
    "flow": "none",
    "condition": "none",
    "objective": "elbo",
    "beta": 1.0,
    "warmup": 0,
    "epochs": 100,
    "batch_size": 100,
    "lr": 1e-3,
    "cooldown": 0.3,
    "optimizer": "adam",
    "patience": 50,
    "engine": "auto",
    "gemm": "auto",
    "samples": 1000,
    "test_images": None,
    "device": "auto",
    "seed": 0,
    "out": None,
    "tensorboard": False,
}


WHERE = ("out", "data_dir", "device", "engine", "gemm", "tensorboard")  # settings that do not make another run


BESIDE_RESUME = ("epochs", "samples", "test_images", "data_dir", "device", "engine", "gemm", "tensorboard")


def flags_of(names):
    """Settings as they are written on the command line."""
    return ", ".join("--" + name.replace("_", "-") for name in names)


DESCRIPTION = "Train a variational auto-encoder, score it, draw its figures."


def parser(prog="run.py", description=DESCRIPTION, kind=Parser, many=False):
    """The flags of a run, or of `many` runs, none of which is resumed by itself."""
    p = kind(
        prog=prog,
        description=description,
        epilog="SPEC is NAME[:N][:OPTION…], for example vamp:500:from-data or planar:5:shared. What can be done with a "
        "finished run, and with many: run.py score, sample, export, sweep, reproduce, each with its --help.",
    )

    def add(group, flag, help, **kwargs):
        default = DEFAULTS.get(flag[2:].replace("-", "_"))
        shown = "" if default is None or default is False else f" (default: {written(default)})"
        group.add_argument(flag, help=help + shown, **kwargs)

    def add_spec(group, flag):
        family = flag[2:]
        kind = specs_of(family) if family in SEVERAL else spec(family)
        add(group, flag, usage(family) + SEVERAL.get(family, ""), type=kind, metavar="SPEC")

    g = p.add_argument_group("data")
    add(
        g,
        "--dataset",
        f"{describe_names()}, or FILE.npz",
        type=path,
        metavar="NAME",
    )
    add(g, "--data-dir", "folder of the data sets (default: the user's cache folder)", type=path, metavar="DIR")
    add(
        g,
        "--binarize",
        "of images with grey levels (default: dynamic for grey images with --likelihood bernoulli, else none)",
        choices=["dynamic", "threshold", "none"],
    )
    add(
        g,
        "--noise",
        "on training images: how many bits are flipped, or the deviation of what is added to grey",
        type=number(float, 0, 1),
        metavar="F",
    )
    g = p.add_argument_group("model and guide")
    for family in ("model", "prior", "flow", "posterior", "likelihood", "net", "activation"):
        add_spec(g, f"--{family}")
    add(g, "--hidden", "widths of the layers", type=widths, metavar="N,N")
    add(g, "--latent", "dimension of z, or of z1,z2; with --posterior vq, 4 for each code", type=latents, metavar="D")
    add(
        g,
        "--condition",
        f"{usage('condition')}: what both networks are given beside x and z; label: q(z | x, y), p(x | z, y)",
        type=spec("condition"),
        metavar="SPEC",
    )
    g = p.add_argument_group("training")
    add_spec(g, "--objective")
    add(g, "--beta", "weight of the KL term", type=number(float, 0, LARGEST), metavar="B")
    add(g, "--warmup", "epochs over which that weight grows from B/N to B", type=number(int, 0, MANY), metavar="N")
    add(g, "--epochs", "at most", **COUNT)
    add(
        g,
        "--patience",
        "stop after N epochs, past the warm-up, without a better validation score (the ELBO, its KL times --beta)",
        **COUNT,
    )
    add(g, "--batch-size", "images per step", **COUNT)
    add(g, "--lr", "learning rate", type=number(float, 0, LARGEST, above=True), metavar="R")
    add(g, "--cooldown", "part of --epochs, the last, where it falls to 0", type=number(float, 0, most=1), metavar="F")
    add(g, "--optimizer", "adam-normgrad: gradients of unit length per tensor", choices=["adam", "adam-normgrad"])
    add(
        g,
        "--engine",
        "svi: stock Pyro, the reference; eager: the same without its waits; compiled: as one compiled graph; "
        "graph: on CUDA, recorded and replayed; auto: graph on CUDA, compiled where the run is long enough, else eager",
        choices=["auto", "svi", "eager", "compiled", "graph"],
    )
    add(
        g,
        "--gemm",
        "library for a CPU's matrix products; auto: a fixed choice for this processor; measure: time both at the start "
        "of the run, so that the last digits of two runs may differ",
        choices=["auto", "blas", "onednn", "measure"],
    )
    g = p.add_argument_group("scoring and output")
    add(g, "--samples", "importance samples per test image", type=number(int, 1, MANY), metavar="S")
    add(g, "--test-images", "score N test images, drawn at random, the same for every run (default: all)", **COUNT)
    add(g, "--device", "where to run; auto: cuda if there is one", choices=DEVICES)
    add(g, "--seed", "of everything random", **SEED)
    whose = "the folder of all runs" if many else "the run's folder"
    add(g, "--out", f"{whose} (default: below runs/, by its name)", type=path, metavar="DIR")
    add(g, "--tensorboard", "curves and figures for TensorBoard too (see requirements-extras.txt)", action="store_true")
    add(
        g,
        "--resume",
        SUPPRESS if many else f"go on with the run in DIR; beside it only {flags_of(BESIDE_RESUME)}",
        type=path,
        metavar="DIR",
    )
    return p


def words(settings):
    """Settings as a command line, which reads back to them.

    >>> words({"hidden": [300, 300], "batch_size": 32, "data_dir": None})
    ['--hidden', '300,300', '--batch-size', '32']
    """
    return [
        word
        for name, value in settings.items()
        if value is not None and value is not False
        for word in (flags_of([name]), *([] if value is True else [written(value)]))
    ]


def written(value):
    """A value as the command line has it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def read(argv):
    """argv → (config, given, resume): every setting, those that argv names, and the folder to resume or None."""
    p = parser()
    given = p.named(argv)
    resume = given.pop("resume", None)
    if resume is not None:
        extra = [name for name in given if name not in BESIDE_RESUME]
        if extra:
            p.error(
                "--resume takes every setting from the run's own config.json; "
                f"only {flags_of(BESIDE_RESUME)} may stand beside it, got {flags_of(extra)}"
            )
    config = DEFAULTS | {name: str(parse(name, DEFAULTS[name])) for name in DEFAULTS if name in FAMILIES} | given
    if resume is None:
        config["objective"] = resolve_objective(config["objective"], config["posterior"])
        parts = {part: config[part] for part in ("prior", "flow", "model", "objective", "condition")}
        latent, levels = config["latent"], 2 if config["model"] == "two-level" else 1
        try:
            check_posterior(
                config["posterior"], **parts, bits=sum(latent) if isinstance(latent, list) else latent * levels
            )
        except SpecError as error:
            p.error(str(error))
    return config, given, resume


def check_data(settings: dict, dataset: str = "dataset") -> None:
    """Reject settings that name data which cannot be read; costs no import of torch.

    Args:
        dataset: which setting names them.

    Raises:
        SpecError: begins with the flag.
    """
    for name, check in ((dataset, check_source), ("data_dir", check_folder)):
        if settings.get(name) is not None:
            try:
                check(settings[name])
            except SpecError as error:
                raise SpecError(f"{flags_of([name])}: {error}") from None
