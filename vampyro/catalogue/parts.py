"""The catalogue: one row for every part, ours and a user's. Reading it imports no torch.

The grammar of specs, `--help`, the compatibility of parts and how they are built follow from the rows.
"""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vampyro.data.names import DataSet, known_data_sets
from vampyro.errors import SpecError, choose, quote

MAX_COUNT = 10**9  # of anything: a larger number is a slip
MAX_FLOW_LENGTH = 1000  # layers, each a module of its own
MAX_LAYERS = 100  # of a network
ESTIMATORS = ("score", "relaxed", "enumerate")  # of the gradient, where a latent is discrete

REAL, POINTS, BITS, CODES = "real", "points", "bits", "codes"  # kinds of latents
LATENTS = {REAL: "real numbers", POINTS: "points", BITS: "bits", CODES: "a codebook's codes"}
EVERY = tuple(LATENTS)
Builder = str | Callable[..., Any]


@dataclass(frozen=True)
class Part:
    """The row of a part.

    Attributes:
        family, name: `prior`, `flow`, `likelihood`, …, the flag without its dashes; its name in specs.
        build: a function, or "module:function", which is imported when the part is first built; or one for each kind
            of latents. Our own are in `vampyro.catalogue.builders`.
        n, max_n: the default and the largest number after the name; n is None where the name takes none.
        options, exclusive: words that may follow; of the exclusive ones at most one.
        on: the kinds of latents that it goes with, of LATENTS.
        support: of a posterior, the kind of its latents; of a likelihood, where it has mass: `binary`, `levels`,
            `unit` or `real`.
        why: of a posterior, {family: why parts of that family that are not for its latents do not go with it}.
        middle: of a posterior, the head of p(z1 | z2) in a two-level model.
        levels: of a model, how many latents it has.

    The arguments of `build` and its result, where `spec.n` is the number in the spec and `spec.options` its options:

    - prior: (spec, guide, latent, shape, images) → a `Prior`; shape is that of the guide's input, images are training
      images or a function that returns them, or None.
    - flow: (spec, features, latent) → a `Flow`; it is also known as a prior then.
    - posterior: (spec, features, latent) → a head, features → distribution over z.
    - likelihood: (spec, features, shape) → a head, features → distribution over images.
    - net: () → (encoder, trunk): encoder(shape, hidden, activation, final) is a module with `features`, and
      trunk(features, shape, activation), or None, stands between a decoder's MLP and its likelihood.
    - objective: (spec, shape) → an `Objective`.

    >>> Part("prior", "student", lambda spec, guide, latent, shape, images: None).on
    ('real',)
    """

    family: str
    name: str
    build: Builder | Mapping[str, Builder] = ""
    help: str = ""
    n: int | None = None
    options: tuple[str, ...] = ()
    exclusive: tuple[str, ...] = ()
    max_n: int = MAX_COUNT
    on: tuple[str, ...] = (REAL,)
    support: str = REAL
    why: Mapping[str, str] = field(default_factory=dict)
    middle: str = "vampyro.nets:NormalHead"
    levels: int = 1

    def builder(self, latents: str = REAL) -> Callable[..., Any]:
        """The function that builds it, for that kind of latents."""
        build = self.build or import_build("vampyro.catalogue.builders:BUILDERS")[self.family][self.name]
        return import_build(build[latents] if isinstance(build, Mapping) else build)


def import_build(build: Any) -> Any:
    """`build` itself, or what "module:name" names."""
    if not isinstance(build, str):
        return build
    module, _, name = build.partition(":")
    return getattr(importlib.import_module(module), name)


class UnknownParts(SpecError):
    """A folder was made with a file of parts that the user has not named."""


VAMP: dict[str, Any] = {
    "n": 100, "options": ("weighted", "from-data", "fixed"), "exclusive": ("from-data", "fixed"), "on": (REAL, BITS),
}  # fmt: skip
FLOW: dict[str, Any] = {"options": ("shared",), "max_n": MAX_FLOW_LENGTH}
NOT_ON_POINTS = {
    "prior": "mixed points have no density, and a learned prior has one without bound",
    "scoring prior": "mixed points have no density",
    "flow": "a point that flows is another point",
    "objective": "samples of a point are one, and its KL from a density is infinite",
}
NOT_ON_BITS = {
    "prior": "it is a density over real numbers",
    "scoring prior": "it is a density over real numbers",
    "flow": "it bends a density over real numbers",
    "objective": "its gradient goes through samples, and bits have none",
}
NOT_ON_CODES = {
    "prior": "it does not live there",
    "scoring prior": "it does not live there",
    "flow": "it bends a density over real numbers",
    "model": "its lower level is given a vector of real numbers, or bits",
    "objective": "samples of a point are one, and its KL does not move with the encoder",
}
ROWS = (
    Part("prior", "standard", help="N(0, I); on bits and codes uniform", on=EVERY),
    Part("prior", "mog", help="a mixture of N Gaussians", n=10, options=("weighted",)),
    Part("prior", "vamp", help="a VampPrior of N pseudo-inputs", **VAMP),
    Part("prior", "vamp-base", help="a VampPrior over the Gaussian bases", **VAMP),
    Part("scoring prior", "own", help="the one that was trained", on=EVERY),
    Part("scoring prior", "aggregate", help="the aggregated posterior", on=(REAL, BITS, CODES)),
    Part("scoring prior", "gmm", help="N Gaussians, fitted to the codes", n=10, on=(REAL, POINTS)),
    Part("flow", "none", help="no flow", on=EVERY),
    Part("flow", "planar", help="arXiv:1505.05770", n=5, **FLOW),
    Part("flow", "radial", help="arXiv:1505.05770", n=5, **FLOW),
    Part("flow", "sylvester", help="arXiv:1803.05649", n=4, **FLOW),
    Part("flow", "iaf", help="arXiv:1606.04934", n=4, **FLOW),
    Part("flow", "coupling", help="arXiv:1605.08803", n=4, **FLOW),
    Part("flow", "spline", help="arXiv:1906.04032", n=4, **FLOW),
    Part("prior", "autoregressive", help="over a codebook's codes", on=(CODES,)),  # after the flows in lists of priors
    Part("model", "vae", help="one level of latents", on=EVERY),
    Part("model", "two-level", help="z2 → z1 → x", on=(REAL, POINTS, BITS), levels=2),
    Part("net", "mlp"),
    Part("net", "conv", help="the VampPrior paper's"),
    Part("net", "small-conv"),
    *(Part("activation", name) for name in ("gated", "relu", "leaky-relu", "softplus", "tanh")),
    Part("likelihood", "bernoulli", support="binary"),
    Part("likelihood", "normal", options=("learned",), support="real"),
    Part("likelihood", "logistic", support="levels"),
    Part("likelihood", "continuous-bernoulli", support="unit"),
    Part("posterior", "normal", why={"prior": "it is over a codebook's codes"}),
    Part("posterior", "delta", support=POINTS, why=NOT_ON_POINTS),
    Part("posterior", "bernoulli", support=BITS, why=NOT_ON_BITS, middle="vampyro.nets:BinaryHead"),
    Part("posterior", "vq", n=64, support=CODES, why=NOT_ON_CODES),
    Part("condition", "none", on=EVERY),
    Part("condition", "label", on=EVERY),
    Part("objective", "elbo", options=("analytic", *ESTIMATORS), exclusive=ESTIMATORS, on=EVERY),
    Part("objective", "iwae", help="arXiv:1509.00519", n=5),
    Part("objective", "intro", help="arXiv:1807.06358", n=40, options=("reconstructions",)),
)


def _families(rows: Iterable[Part]) -> dict[str, dict[str, Part]]:
    """{family: {name: row}}; each flow is a prior too, as one map of a Normal."""
    families: dict[str, dict[str, Part]] = {}
    for row in rows:
        families.setdefault(row.family, {})[row.name] = row
        if row.family == "flow" and row.name != "none":
            build = "vampyro.catalogue.builders:flow_prior"
            prior = Part("prior", row.name, build, row.help, row.n, max_n=row.max_n)
            families.setdefault("prior", {})[row.name] = prior
    return families


FAMILIES = _families(ROWS)
OPEN = ("prior", "flow", "likelihood", "posterior", "net", "objective")  # families that take a user's rows


@dataclass(frozen=True)
class UserParts:
    """A user's rows, {family: {name: row}}, and the file that they come from, or None."""

    families: Mapping[str, Mapping[str, Part]] = field(default_factory=dict)
    data_sets: tuple[DataSet, ...] = ()
    file: str | None = None
    sha256: str | None = None


_user = UserParts()  # of the process: the threads of a sweep use it too
command = ExitStack()  # of this process's command line: `vampyro.cli.main` ends it, and with it the user's parts


def rows(family: str) -> Mapping[str, Part]:
    """{name: row} of a family, a user's rows after ours."""
    return FAMILIES[family] | dict(_user.families.get(family, {}))


def user_parts() -> UserParts:
    """The user's rows that are known at present."""
    return _user


@contextmanager
def known(parts: str | Path | Iterable[Part | DataSet] | None) -> Iterator[None]:
    """Inside, a user's rows stand next to ours: a list, or that of a Python file, PARTS, which is executed.

    Raises:
        SpecError: where the file cannot be read or executed or holds no `PARTS`, or a row is wrong.

    >>> with known([Part("prior", "mine", lambda spec, guide, latent, shape, images: None)]):
    ...     "mine" in rows("prior")
    True
    """
    global _user
    before = _user
    if parts is None:
        yield
        return
    found = _read(str(parts)) if isinstance(parts, (str, Path)) else _check(parts, "parts")
    with known_data_sets(found.data_sets):
        _user = found
        try:
            yield
        finally:
            _user = before


def _read(file: str) -> UserParts:
    """The list `PARTS` of a Python file, which is executed once; its imports are looked up in its folder too."""
    what, path = f"parts {quote(file)}", Path(file).resolve()
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise SpecError(f"{what}: {error.strerror}; expected a Python file with a list PARTS") from None
    name = f"vampyro_parts_{digest[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if path.suffix != ".py" or spec is None or spec.loader is None:
            raise SpecError(f"{what}: expected a Python file, NAME.py, with a list PARTS")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickling look their module up
        sys.path.insert(0, str(path.parent))
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
            line = f"line {lines[-1].lineno}: " if lines else ""
            raise SpecError(f"{what}: {line}{type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(str(path.parent))
    if "PARTS" not in vars(sys.modules[name]):
        raise SpecError(f"{what} has no list PARTS: PARTS = [Part('prior', 'student', build=…)]")
    return replace(_check(sys.modules[name].PARTS, what), file=file, sha256=digest)


def _check(parts: object, what: str) -> UserParts:
    if not isinstance(parts, (list, tuple)) or not all(isinstance(row, (Part, DataSet)) for row in parts):
        raise SpecError(f"{what}: expected a list of Part and DataSet rows, got {quote(parts)}")
    chosen = [row for row in parts if isinstance(row, Part)]
    for row in chosen:
        if choose(f"family in {what}", row.family, list(OPEN)) and row.name in FAMILIES[row.family]:
            raise SpecError(f"{what}: there is a {row.family} {row.name!r} already; choose another name")
        if not row.build:
            raise SpecError(f"{what}: {row.family} {row.name!r} has no build: give a function")
    names = [(row.family, row.name) for row in chosen]
    if len(set(names)) < len(names):
        raise SpecError(f"{what}: a name is there twice: {', '.join(sorted({name for _, name in names}))}")
    return UserParts(_families(chosen), tuple(row for row in parts if isinstance(row, DataSet)))


def check_recorded(file: str | None, sha256: str | None, where: str | Path, hint: str) -> str | None:
    """Check that the parts which the folder `where` was made with are known; return a warning where they have changed.

    Args:
        file, sha256: of the file of parts, as recorded; None where there was none.
        hint: how to name the file, after "add".

    Raises:
        UnknownParts: where no file of parts was named.
    """
    if file is None:
        return None
    now = user_parts()
    if not now.families and not now.data_sets:
        raise UnknownParts(
            f"{where} was made with the parts of {quote(file)}, which is not executed unless you name it: add {hint}"
        )
    if now.sha256 == sha256:
        return None
    return f"{now.file or 'the given parts'} is not the file that {where} was made with, or has changed since"
