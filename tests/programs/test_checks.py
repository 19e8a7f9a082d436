"""Images of the wrong kind are named, with the remedy, before any work: in every function that takes images."""

import inspect
import json

import pytest
import torch

from tests.helpers import find
from vampyro.catalogue import saving as assembly
from vampyro.catalogue.assemble import assemble
from vampyro.likelihood import score
from vampyro.programs.checks import check_images
from vampyro.training.checkpoint import CheckpointError

SHAPE = (1, 4, 4)
FUNCTIONS = (
    "score log_weights elbo_parts validation decompose gaps posterior_draws active_units surgery component_use "
    "code_use scoring_guide ais points_of"
).split()
GOOD = torch.rand(5, *SHAPE).round()
BAD = {
    "uint8": ((GOOD * 255).to(torch.uint8), TypeError, r"torch.uint8, expected torch.float32: images.float\(\) / 255"),
    "bool": (GOOD.bool(), TypeError, r"torch.bool, expected torch.float32: images.float\(\), or data.images"),
    "int64": (GOOD.long(), TypeError, r"torch.int64, expected torch.float32: images.float\(\)"),
    "float64": (GOOD.double(), TypeError, r"torch.float64, expected torch.float32: images.float\(\)"),
    "nan": (GOOD.index_fill(0, torch.tensor([1, 3]), torch.nan), ValueError, r"not finite .* 2 of 5 images"),
    "infinite": (GOOD.clone().fill_(torch.inf), ValueError, "not finite .* 5 of 5 images"),
    "device": (GOOD.to("meta"), ValueError, r"images are on meta, .* on cpu: images.to\('cpu'\)"),
    "list": (GOOD.tolist(), TypeError, "images are a list, expected a tensor of floats"),
    "none": (GOOD[:0], ValueError, "expected at least one image"),
    "unbatched": (GOOD[0], ValueError, r"images are of shape \(1, 4, 4\), expected \(N, 1, 4, 4\)|at least two images"),
    "scalar": (GOOD.sum(), ValueError, r"images are of shape \(\), expected at least one image"),
}


def call(name, images):
    model, guide = assemble(prior="mog:3", hidden=(8,), latent=2, shape=SHAPE)
    programs = {"ais": (model,), "points_of": (guide,)}.get(name, (model, guide))
    more = (10,) if name == "log_weights" else ()
    result = inspect.unwrap(find(name))(*programs, images, *more)  # without the tests' own checks of types
    return list(result) if inspect.isgenerator(result) else result


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_images_of_the_wrong_kind_are_named(name, kind):
    if kind == "unbatched" and name in ("scoring_guide", "points_of"):
        pytest.skip("these ask the guide alone, for which this is one image")
    images, error, message = BAD[kind]
    with pytest.raises(error, match=message):
        call(name, images)


@pytest.mark.parametrize("kind", ["uint8", "float64", "bool"])
def test_a_guides_q_names_the_dtype(kind):
    _, guide = assemble(hidden=(8,), latent=2, shape=SHAPE)
    with pytest.raises(TypeError, match=f"images are torch.{kind}, expected torch.float32: images"):
        guide.q(BAD[kind][0])
    _, guide = assemble(hidden=(8,), latent=2, shape=(1, 28, 28), net="conv")
    with pytest.raises(TypeError, match=f"images are torch.{kind}, expected torch.float32: images"):
        guide.q(BAD[kind][0].new_zeros(2, 1, 28, 28))
    assert guide.double().q(torch.zeros(2, 1, 28, 28, dtype=torch.float64)).mean.dtype == torch.float64


def test_functions_say_what_they_could_not_run_on():
    def guide(x):
        return torch.nn.Linear(4, 2)(x)

    with pytest.raises(TypeError, match=r"shape \(3, 4\), torch.float64: the program guide failed on them"):
        inspect.unwrap(score)(guide, guide, torch.zeros(3, 4).double(), 5)
    with pytest.raises(RuntimeError, match=r"shape \(3, 5\), torch.float32: the program guide failed .* with a batch"):
        inspect.unwrap(score)(guide, guide, torch.zeros(3, 5), 5)


def test_float64_images_are_for_programs_in_float64():
    program = torch.nn.Linear(2, 1).double()
    check_images(torch.zeros(3, 2).double(), program)
    with pytest.raises(TypeError, match=r"torch.float32, expected torch.float64: images.to\(torch.float64\)"):
        check_images(torch.zeros(3, 2), program)


def test_load_names_what_is_not_a_runs_folder(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoint.pt").write_bytes(b"")
    for path in (tmp_path / "gone", run, run / "checkpoint.pt"):
        with pytest.raises(
            FileNotFoundError, match=f"^{path} holds no config.json, expected a folder of `save` or of a run"
        ):
            assembly.load(path)
    for contents in ("{", json.dumps([1]), json.dumps({"latent": 2})):
        (run / "config.json").write_text(contents)
        with pytest.raises(CheckpointError, match="config.json is not the config.json of a run"):
            assembly.load(run)
