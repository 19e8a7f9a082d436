"""Spec strings read back, refuse with the right word, and cost no import of torch."""

import re
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

from vampyro.catalogue import specs
from vampyro.catalogue.compatibility import VALUES
from vampyro.catalogue.parts import ESTIMATORS, FAMILIES, LATENTS, Part
from vampyro.catalogue.specs import Spec, parse
from vampyro.errors import SpecError, choose
from vampyro.nets.mlp import ACTIVATIONS

ROOT = Path(__file__).parents[2]


def every():
    """(family, name, form, options): each form with each sequence of options that may stand together."""
    for family, forms in FAMILIES.items():
        for name, form in forms.items():
            for size in range(len(form.options) + 1):
                for options in permutations(form.options, size):
                    if len(set(options) & set(form.exclusive)) < 2:
                        yield family, name, form, options


@pytest.mark.parametrize(
    ("family", "name", "form", "options"),
    [pytest.param(*case, id=":".join([*case[:2], *case[3]])) for case in every()],
)
def test_every_spec_reads_back_with_its_default_shown_and_options_sorted(family, name, form, options):
    default = [] if form.n is None else [str(form.n)]
    assert str(parse(family, ":".join([name, *options]))) == ":".join([name, *default, *sorted(options)])
    for number in default and [*default, "1", "7"]:
        spec = parse(family, ":".join([name, number, *options]))
        assert spec == Spec(name, int(number), frozenset(options))
        assert str(spec) == ":".join([name, number, *sorted(options)])
        assert parse(family, str(spec)) == parse(family, spec) == spec
        assert repr(spec) == f"Spec({str(spec)!r})"


def test_blanks_around_a_spec_do_not_matter():
    assert parse("flow", " planar:2 ") == parse("flow", "planar:2")


@pytest.mark.parametrize(
    ("family", "text", "expected"),
    [
        ("flow", "plannar", ["'plannar'", "did you mean 'planar'?", "none, planar"]),
        ("flow", "Planar:3", ["'Planar'", "did you mean 'planar'?"]),
        ("prior", "vampp:500", ["'vampp'", "did you mean 'vamp'?"]),
        ("prior", "VAMP:50", ["'VAMP'", "did you mean 'vamp'?"]),
        ("prior", "Gaussian", ["'Gaussian'", "did you mean 'standard'?"]),
        ("flow", "realnvp:4", ["'realnvp'", "did you mean 'coupling'?"]),
        ("prior", "standart", ["'standart'", "did you mean 'standard'?"]),
        ("prior", "qqq", ["unknown prior 'qqq'", "choose from standard, mog, vamp"]),
        ("prior", "", ["unknown prior ''", "choose from"]),
        ("prior", ":5", ["unknown prior ''", "choose from"]),
        ("model", "vea", ["'vea'", "did you mean 'vae'?"]),
        ("flow", "planar:0", ["flow 'planar:0'", "at least 1", "write 'none'"]),
        ("flow", "planar:-3", ["flow 'planar:-3'", "at least 1", "write 'none'"]),
        ("prior", "mog:1000000001", ["'mog:1000000001'", "at most 1000000000"]),
        ("objective", "iwae:99999999999999999999", ["at most 1000000000"]),
        ("prior", "mog:" + "9" * 5000, ["at most 1000000000"]),
        ("flow", "planar:" + "9" * 5000, ["at most 1000"]),
        ("flow", "planar:1001", ["'planar:1001'", "at most 1000"]),
        ("flow", "planar:-" + "9" * 5000, ["at least 1"]),
        ("prior", "mog:0", ["prior 'mog:0'", "at least 1"]),
        ("flow", "planar:2.5", ["'planar:2.5'", "a whole number or 'shared'", "got '2.5'"]),
        ("flow", "planar:", ["'planar:'", "a whole number or 'shared'", "got ''"]),
        ("flow", "planar:five", ["'planar:five'", "a whole number", "got 'five'"]),
        ("flow", "planar:²", ["'planar:²'", "a whole number", "got '²'"]),
        ("flow", "planar:5:share", ["'planar:5:share'", "got 'share'", "did you mean 'shared'?"]),
        ("flow", "planar:5:5", ["'planar:5:5'", "expected 'shared'", "got '5'"]),
        ("flow", "planar:shared:5", ["'planar:shared:5'", "expected 'shared'", "got '5'"]),
        ("flow", "planar:5:shared:shared", ["'planar:5:shared:shared'", "'shared' is given twice"]),
        ("flow", "none:3", ["'none:3'", "'none' takes no number", "got '3'"]),
        ("prior", "standard:5", ["'standard:5'", "'standard' takes no number", "got '5'"]),
        ("prior", "standard:weighted", ["'standard:weighted'", "takes nothing after it", "got 'weighted'"]),
        ("prior", "mog:5:from-data", ["'mog:5:from-data'", "expected 'weighted'", "got 'from-data'"]),
        ("prior", "vamp:weigthed", ["'vamp:weigthed'", "got 'weigthed'", "did you mean 'weighted'?"]),
        ("prior", "vamp:5:fixed:from-data", ["'vamp:5:fixed:from-data'", "'fixed' and 'from-data' exclude each other"]),
        ("prior", "vamp:++5", ["'vamp:++5'", "a whole number", "got '++5'"]),
        ("prior", "vamp:+-5", ["'vamp:+-5'", "a whole number", "got '+-5'"]),
    ],
)
def test_a_malformed_spec_says_what_was_given_and_what_is_near(family, text, expected):
    with pytest.raises(SpecError) as error:
        parse(family, text)
    for words in expected:
        assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_letter_wrong_is_guessed(family):
    for name in FAMILIES[family]:
        with pytest.raises(SpecError, match=f"did you mean '{name}'"):
            parse(family, name[:-1] + "%")


def test_choose_returns_the_name_itself():
    assert choose("job", "train", ["train"]) == "train"


def test_usage_names_every_form():
    for family, forms in FAMILIES.items():
        parts = specs.usage(family).split(", ")
        assert [part.split("[")[0] for part in parts] == list(forms)
        for part, form in zip(parts, forms.values()):
            assert ("[:N]" in part) == (form.n is not None)
            assert set(form.options) <= set(re.split(r"[\[\]:|]+", part))


@pytest.mark.parametrize(
    "row", [row for forms in FAMILIES.values() for row in forms.values()], ids=lambda row: row.name
)
def test_a_row_names_what_can_be_built_and_kinds_of_latents_that_there_are(row):
    assert set(row.on) <= set(LATENTS) and set(row.why) <= set(FAMILIES) and set(row.exclusive) <= set(row.options)
    if row.family not in ("activation", "condition", "model") and row.name != "own":
        assert all(callable(row.builder(latents)) for latents in row.on)
    assert row.support in (VALUES if row.family == "likelihood" else LATENTS)


def test_the_names_are_those_of_the_nets_and_engines():
    from vampyro.catalogue.assemble import build_objective
    from vampyro.training.engines.make import ENGINES

    assert set(ACTIVATIONS) == set(FAMILIES["activation"])
    for name in FAMILIES["objective"]:
        assert set(build_objective(name, (1, 2, 2)).engines or ENGINES) <= set(ENGINES)
    assert set(ESTIMATORS) <= set(FAMILIES["objective"]["elbo"].options)


def test_a_name_put_in_at_run_time_is_as_good_as_the_rest():
    from vampyro.priors import StandardNormal

    from vampyro.catalogue.assemble import assemble

    mine = Part("prior", "mine", lambda spec, guide, latent, shape, images: StandardNormal(latent))
    model, _ = assemble(prior="mine", hidden=(8,), latent=2, shape=(1, 2, 2), parts=[mine])
    assert isinstance(model.prior, StandardNormal)
    with pytest.raises(SpecError, match="prior 'autoregressive' does not go with posterior 'normal'.* or mine$"):
        assemble(prior="autoregressive", parts=[mine])
    with pytest.raises(SpecError, match="unknown prior 'mine'"):
        assemble(prior="mine")


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("module", ["vampyro", "vampyro.catalogue.specs", "vampyro.runs.config", "run"])
def test_importing_it_imports_no_torch(module):
    done = python("-c", f"import sys, {module}; print(sorted({{'torch', 'pyro', 'numpy'}} & set(sys.modules)))")
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["sweep", "--help"], ["reproduce", "--help"]])
def test_help_names_every_spec_and_imports_no_torch(words):
    done = python("-X", "importtime", "run.py", *words)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "vampyro.catalogue.specs" in imported and not {"torch", "pyro", "numpy"} & imported
    for family, forms in FAMILIES.items():
        if family == "scoring prior":  # of the job score
            continue
        assert f"--{family} SPEC" in done.stdout
        assert all(name in "".join(done.stdout.split()) for name in forms)


def test_the_command_line_offers_the_engines_and_optimizers_that_there_are():
    from vampyro.runs.config import parser
    from vampyro.training.engines.make import ENGINES
    from vampyro.training.engines.optimizers import OPTIMIZERS

    choices = {action.dest: action.choices for action in parser()._actions}
    assert choices["engine"] == ["auto", *ENGINES]
    assert choices["optimizer"] == list(OPTIMIZERS)
