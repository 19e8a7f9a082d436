"""The settings of a training run: flags, config.json and --config FILE.toml follow from `Config`. Imports no torch."""

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any

from typing_extensions import Self

from vampyro import files
from vampyro.catalogue.compatibility import check_posterior, resolve_objective
from vampyro.catalogue.parts import MAX_COUNT, user_parts
from vampyro.catalogue.specs import usage
from vampyro.data.names import check_folder, check_source, describe_names
from vampyro.errors import SpecError, choose, quote
from vampyro.runs.arguments import (
    COUNT,
    DEVICES,
    LARGEST,
    SEED,
    Parser,
    as_started,
    latents,
    number,
    path,
    spec,
    specs_of,
    value_of,
    widths,
    word_fault,
)

WHERE = ("out", "data_dir", "device", "engine", "gemm", "tensorboard", "parts")  # do not change the result
BESIDE_RESUME = ("epochs", "samples", "test_images", "data_dir", "device", "engine", "gemm", "tensorboard", "parts")
DESCRIPTION = "Train a variational auto-encoder, score it, draw its figures."
# The first setting of each group of flags, and the title of the group in --help.
GROUPS = {"dataset": "data", "model": "model and guide", "objective": "training", "samples": "scoring and output"}


def setting(default: Any, help: str = "", **argument: Any) -> Any:
    """Return the field of a setting; `argument` are the arguments of `add_argument`."""
    metadata = {"help": help, "argument": argument}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def part(default: str, help: str = "", several: bool = False) -> Any:
    """Return the field of a setting that is a spec of the family of its name, or `several` separated by commas."""
    return field(default=default, metadata={"help": help, "read": specs_of if several else spec})


FOLDER: dict[str, Any] = {"type": path, "metavar": "DIR"}
FRACTION: dict[str, Any] = {"type": number(float, 0, 1), "metavar": "F"}


@dataclass(frozen=True)
class Config(Mapping[str, Any]):
    """The settings of a training run, as attributes (`config.prior`) and as a mapping (`config["prior"]`).

    `config | {"epochs": 3}` is a copy with changes, and `dict(config)` is the content of config.json.
    """

    dataset: str = setting("mnist5k", f"{describe_names()}, or FILE.npz", type=path, metavar="NAME")
    data_dir: str | None = setting(None, "folder of the data sets (default: the user's cache folder)", **FOLDER)
    binarize: str | None = setting(
        None,
        "how to binarise grey images (default: dynamic for --likelihood bernoulli, otherwise none)",
        choices=["dynamic", "threshold", "none"],
    )
    noise: float = setting(
        0.0,
        "noise on training images: probability of flipping a bit, or standard deviation for grey images",
        **FRACTION,
    )
    model: str = part("vae")
    net: str = part("mlp")
    hidden: list[int] = setting([300, 300], "widths of the layers", type=widths, metavar="N,N")
    activation: str = part("gated", "; A,B uses B in the last layer of networks with images as input", several=True)
    latent: int | list[int] = setting(
        40, "dimension of z, or of z1,z2 for two-level; with --posterior vq, 4 per code", type=latents, metavar="D"
    )
    likelihood: str = part("bernoulli")
    prior: str = part("standard")
    posterior: str = part("normal")
    flow: str = part("none", "; FLOW1,FLOW2 for z1,z2 of two-level", several=True)
    parts: str | None = setting(
        None,
        "Python file with your own parts, which are then available by name; the file is executed",
        type=path,
        metavar="FILE.py",
    )
    condition: str = part("none", ": additional input of both networks; label: q(z | x, y), p(x | z, y)")
    objective: str = part("elbo")
    beta: float = setting(1.0, "weight of the KL term", type=number(float, 0, LARGEST), metavar="B")
    warmup: int = setting(
        0, "increase the weight of the KL term from B/N to B over N epochs", type=number(int, 0, MAX_COUNT), metavar="N"
    )
    epochs: int = setting(100, "maximum number of epochs", **COUNT)
    batch_size: int = setting(100, "images per step", **COUNT)
    lr: float = setting(1e-3, "learning rate", type=number(float, 0, LARGEST, above=True), metavar="R")
    cooldown: float = setting(
        0.3, "fraction of --epochs at the end in which the learning rate decreases to 0", **FRACTION
    )
    optimizer: str = setting(
        "adam",
        "adam, or adam-normgrad with the gradient of each tensor scaled to norm 1",
        choices=["adam", "adam-normgrad"],
    )
    patience: int = setting(
        50,
        "stop after N epochs without a better validation ELBO (with the KL times --beta), counted after the warm-up",
        **COUNT,
    )
    engine: str = setting(
        "auto",
        "svi: Pyro's SVI, as a reference; eager: the same steps without waiting for the device; compiled: compiled by "
        "torch; graph: a CUDA graph; auto: graph on CUDA, otherwise compiled for long runs and eager for short ones",
        choices=["auto", "svi", "eager", "compiled", "graph"],
    )
    gemm: str = setting(
        "auto",
        "library for matrix products on a CPU; auto: the faster one for this kind of processor",
        choices=["auto", "blas", "onednn"],
    )
    samples: int = setting(1000, "importance samples per test image", **COUNT | {"metavar": "S"})
    test_images: int | None = setting(
        None, "number of test images to score, a random choice that is the same for every run (default: all)", **COUNT
    )
    device: str = setting("auto", "auto: cuda if it is available", choices=DEVICES)
    seed: int = setting(0, "seed of all random numbers", **SEED)
    out: str | None = setting(None, "folder of the run (default: runs/NAME, where NAME lists the settings)", **FOLDER)
    tensorboard: bool = setting(
        False, "also write curves and figures for TensorBoard (needs requirements-extras.txt)", action="store_true"
    )

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))

    def __or__(self, changes: Mapping[str, Any]) -> Self:
        return replace(self, **changes)

    @classmethod
    def from_dict(cls, content: object) -> Self:
        """Check settings from a file; unknown keys are ignored.

        Raises:
            SpecError: if the content is not an object, lacks a setting, or has a value that its flag would reject.

        >>> RunConfig.from_dict(dict(Config()))
        Traceback (most recent call last):
        vampyro.errors.SpecError: it lacks shape, sha256
        """
        if not isinstance(content, dict):
            raise SpecError(f"expected an object, got {quote(content)}")
        content = ADDED | content
        if missing := [name for name in cls.__dataclass_fields__ if name not in content]:
            raise SpecError(f"it lacks {', '.join(missing[:3])}")
        values = {}
        for setting in fields(cls):
            try:
                values[setting.name] = check_value(setting, content[setting.name])
            except SpecError as error:
                name = flags_of([setting.name]) if setting.name in DEFAULTS else setting.name
                raise SpecError(f"{name}: {error}") from None
        return cls(**values)


def image_shape(text: str) -> list[int]:
    """An argparse type: `1,28,28` → [1, 28, 28]."""
    shape = widths(text)
    if len(shape) != 3 or math.prod(shape) > MAX_COUNT:
        raise argparse.ArgumentTypeError(f"expected channels,height,width, got {quote(text)}")
    return shape


@dataclass(frozen=True, kw_only=True)
class RunConfig(Config):
    """The config.json of a run: its settings, its data and its machine."""

    processes: int | None = setting(None, **COUNT)
    threads: int | None = setting(None, **COUNT)
    shape: list[int] = setting(MISSING, type=image_shape)
    classes: int | None = setting(None, **COUNT)
    parts_sha256: str | None = setting(None, type=str)
    sha256: dict[str, str]

    @classmethod
    def from_dict(cls, content: object) -> Self:
        config = super().from_dict(content)
        if not isinstance(config.sha256, dict) or not all(isinstance(digest, str) for digest in config.sha256.values()):
            raise SpecError(f"sha256: expected {{file: digest}}, got {quote(config.sha256)}")
        if (config.classes is None) != (config.condition == "none"):
            raise SpecError(f"classes: {quote(config.classes)} does not fit --condition {config.condition}")
        return config


# Defaults for settings that older runs lack.
ADDED = {"condition": "none", "tensorboard": False, "gemm": "blas"}
ADDED |= dict.fromkeys(("classes", "processes", "threads", "parts", "parts_sha256"))


def check_value(setting: Field, value: Any) -> Any:
    """Return the value of a setting from a file; raise a SpecError for a value that its flag would reject.

    >>> check_value(Config.__dataclass_fields__["epochs"], "3")
    Traceback (most recent call last):
    vampyro.errors.SpecError: expected 3, got '3'
    """
    argument, text = argument_of(setting), written(value)
    if (value is None and setting.default is None) or not setting.metadata:
        return value
    if isinstance(setting.default, bool):
        if not isinstance(value, bool):
            raise SpecError(f"expected true or false, got {quote(value)}")
        return value
    if fault := word_fault(text):
        raise SpecError(fault)
    try:
        read = argument["type"](text) if "type" in argument else choose(setting.name, text, argument["choices"])
    except argparse.ArgumentTypeError as error:
        raise SpecError(str(error)) from None
    if isinstance(read, str) != isinstance(value, str):
        raise SpecError(f"expected {quote(read)}, got {quote(value)}")
    return read


def argument_of(setting: Field) -> dict[str, Any]:
    """Return the arguments of `add_argument` for a setting, without flag and help."""
    if read := setting.metadata.get("read"):
        return {"type": read(setting.name), "metavar": "SPEC"}
    return setting.metadata.get("argument", {})


class RunParser(Parser):
    """The flags of a run, with --config."""

    def named_settings(self, argv: Sequence[str]) -> dict[str, Any]:
        file, content = value_of(argv, "--config"), {}
        try:
            if file is not None:
                content = files.read_toml(file)
        except OSError as error:
            self.error(f"--config: cannot read {quote(file)}: {error.strerror}")
        except (ValueError, RecursionError) as error:
            self.error(f"--config: {quote(file)} is not a TOML file: {error}")
        if isinstance(parts := content.get("parts"), str) and value_of(argv, "--parts") is None:
            self.know_parts(parts)
        given = super().named_settings(argv)
        try:
            given = (read_settings(given.pop("config"), content) if file is not None else {}) | given
        except SpecError as error:
            self.error(str(error))
        return given | ({"parts": user_parts().file} if user_parts().file else {})


def read_settings(file: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in a TOML file; its keys are those of config.json, with - or _."""
    known, given = {setting.name: setting for setting in fields(Config)}, {}
    for key, value in content.items():
        name = key.replace("-", "_")
        try:
            choose("key", name, list(known))
            given[name] = check_value(known[name], value)
        except SpecError as error:
            raise SpecError(f"--config {file}: {f'{key}: ' if name in known else ''}{error}") from None
    return given


def flags_of(names: Sequence[str]) -> str:
    """Return the flags of settings."""
    return ", ".join("--" + name.replace("_", "-") for name in names)


def parser(prog: str = "run.py", description: str = DESCRIPTION, many: bool = False) -> RunParser:
    """Return the parser for one run, or for `many` runs, without --resume."""
    p = RunParser(
        prog,
        description=description,
        epilog="SPEC is NAME[:N][:OPTION…], for example vamp:500:from-data or planar:5:shared. Other commands: "
        + as_started("run.py score, sample, export, sweep, reproduce; each has its own --help."),
    )
    for setting in fields(Config):
        if setting.name in GROUPS:
            group = p.add_argument_group(GROUPS[setting.name])
        help = (usage(setting.name) if "read" in setting.metadata else "") + setting.metadata["help"]
        if many and setting.name == "out":
            help = help.replace("folder of the run", "folder of all runs")
        default = DEFAULTS[setting.name]
        help += "" if default is None or default is False else f" (default: {written(default)})"
        group.add_argument(flags_of([setting.name]), help=help, **argument_of(setting))
    told = f"resume the run in DIR; can only be combined with {flags_of(BESIDE_RESUME)}"
    group.add_argument("--resume", help=argparse.SUPPRESS if many else told, type=path, metavar="DIR")
    told = "settings from a file, with lines such as epochs = 50; flags override it"
    group.add_argument("--config", help=told, type=path, metavar="FILE.toml")
    return p


def words(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as words of a command line.

    >>> words({"hidden": [300, 300], "batch_size": 32, "data_dir": None})
    ['--hidden', '300,300', '--batch-size', '32']
    """
    return [
        word
        for name, value in settings.items()
        if value is not None and value is not False
        for word in (flags_of([name]), *([] if value is True else [written(value)]))
    ]


def written(value: Any) -> str:
    """Return a value as text for the command line."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def read(argv: Sequence[str]) -> tuple[Config, dict[str, Any], str | None]:
    """Return all settings, those that argv contains, and the folder to resume or None."""
    p = parser()
    given = p.named_settings(argv)
    resume = given.pop("resume", None)
    if resume is not None and (extra := [name for name in given if name not in BESIDE_RESUME]):
        p.error(
            "--resume reads the settings from the run's config.json; "
            f"it can only be combined with {flags_of(BESIDE_RESUME)}, got {flags_of(extra)}"
        )
    config = DEFAULTS | given
    if resume is None:
        config |= {"objective": resolve_objective(config.objective, config.posterior)}
        parts = {part: config[part] for part in ("prior", "flow", "model", "objective", "condition")}
        latent, levels = config.latent, 2 if config.model == "two-level" else 1
        bits = sum(latent) if isinstance(latent, list) else latent * levels
        try:
            check_posterior(config.posterior, **parts, bits=bits)
        except SpecError as error:
            p.error(str(error))
    return config, given, resume


DEFAULTS = Config()


def check_data(settings: Mapping[str, Any], dataset: str = "dataset") -> None:
    """Raise a SpecError if the data set in the setting `dataset`, or its folder, cannot be read."""
    for name, check in ((dataset, check_source), ("data_dir", check_folder)):
        if settings.get(name) is not None:
            try:
                check(settings[name])
            except SpecError as error:
                raise SpecError(f"{flags_of([name])}: {error}") from None
