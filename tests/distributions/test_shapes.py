"""Wrong shapes: refused by name, in the REPL by the parts themselves and in tests by the annotations."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from vampyro.catalogue.assemble import assemble
from vampyro.distributions.shapes import plate_size
from vampyro.likelihood import ais, score
from vampyro.likelihood.scores import log_mean
from vampyro.nets import ConvEncoder
from vampyro.training import elbo_parts, make_update

ROOT = Path(__file__).parents[2]
WRONG = [(784,), (5, 784), (28, 28), (5, 28, 28), (5, 1, 14, 14), (5, 28, 28, 1)]
PARTS = [
    {"net": "mlp"},
    {"net": "mlp", "likelihood": "normal"},
    {"net": "small-conv", "likelihood": "normal"},
    {"condition": "label", "classes": 10},
    {"model": "two-level"},
]


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: " ".join(map(str, parts.values())))
def test_wrongly_shaped_images_are_refused_by_name(parts):
    model, guide = assemble(**parts, hidden=(8,), latent=2)
    update = make_update(model, guide)
    for shape in WRONG:
        x = torch.zeros(shape)
        for use in (
            lambda: guide.q(x),
            lambda: model(x),
            lambda: update(x),
            lambda: score(model, guide, x, samples=2),
            lambda: ais(model, x, chains=2, temperatures=2),
            lambda: elbo_parts(model, guide, x),
        ):
            with pytest.raises(ValueError, match=r"images .*are of shape .*expected \(N, (1, 28, 28|794)\)"):
                use()


@pytest.mark.parametrize("batch", [0, -1, 2.5, "16"])
@pytest.mark.parametrize("name", ["vae", "two-level"])
def test_a_batch_of_no_images_is_refused_by_name(name, batch):
    model, _ = assemble(model=name, hidden=(8,), latent=2)
    with pytest.raises(ValueError, match="batch is .*, expected a whole number of images"):
        model(batch=batch)


def test_a_number_for_images_says_how_to_draw_so_many():
    with pytest.raises(TypeError, match=r"images are 16, .*model\(batch=16\)"):
        plate_size(16, 1)
    with pytest.raises(TypeError, match="images are of type ndarray"):
        plate_size(np.zeros((2, 1, 28, 28)), 1)


@pytest.mark.parametrize("shape", WRONG)
def test_encoders_refuse_them_by_name(shape):
    with pytest.raises(ValueError, match="images are of shape"):
        ConvEncoder((1, 28, 28))(torch.zeros(shape))


def test_annotations_are_checked_here():
    with pytest.raises(TypeCheckError, match="images"):
        elbo_parts(*assemble(hidden=(8,), latent=2), torch.zeros(5, 1, 28, 28, dtype=torch.int64))
    with pytest.raises(TypeCheckError, match="log_w"):
        log_mean(torch.zeros(()))


def test_annotations_of_distributions():
    """In a process of its own, on the examples of the docstrings: checks in every call would slow all other tests."""
    code = """if True:
        from jaxtyping import TypeCheckError, install_import_hook
        install_import_hook("vampyro.distributions", "beartype.beartype")
        import torch
        from tests.test_doctests import DOCTESTED, test_examples_in_docstrings
        from vampyro.distributions import DiagonalNormal
        for name in DOCTESTED:
            if name.startswith("vampyro.distributions."):
                test_examples_in_docstrings(name)
        def reject(call):
            try:
                call()
            except TypeCheckError as error:
                print(error)
            else:
                raise AssertionError("wrong shapes were accepted")
        normal = DiagonalNormal(torch.zeros(3, 2), torch.ones(3, 2))
        normal.pairwise_log_prob(torch.zeros(5, 2))
        reject(lambda: normal.pairwise_log_prob(torch.zeros(5, 2).long()))
        reject(lambda: DiagonalNormal(torch.zeros(3, 2), torch.ones(3, 3)))
    """
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "z" in done.stdout and "scale" in done.stdout
