"""The wheel: what is in it, and that it works next to a user's own modules, away from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("vampyro", "models", "guides", "priors")
SIZES = {"train": 40, "valid": 10, "test": 10}
OTHERS = ("data", "models", "plots", "nets", "guides")  # a user's own modules, next to their script

AT_THE_PROMPT = """
import models, data
import vampyro as vp
import plots, nets, guides
assert all(module.MINE for module in (data, models, plots, nets, guides))
assert "site" in vp.__file__ and "site" in vp.VAE.__init__.__code__.co_filename, vp.__file__

images = vp.data.load("images.npz")
model, guide = vp.assemble(prior="vamp:5", flow="planar:2", hidden=(8,), latent=2, shape=images.image_shape)
assert [line["epoch"] for line in vp.fit(vp.make_update(model, guide), images, epochs=2, batch_size=10)] == [1, 2]
x = images.images("test")
found = vp.score(model, guide, x, samples=20).log_likelihood
vp.save("saved", model, guide)
again = vp.score(*vp.load("saved"), x, samples=20).log_likelihood
assert found.shape == again.shape == (10,) and ((found - again).abs() < 5).all()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that is built from a copy, so that the checkout stays as it is."""
    copy, folder = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheel")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "--wheel-dir", folder, copy], capture_output=True, text=True)
    if "BackendUnavailable" in done.stderr or "No module named pip" in done.stderr:
        pytest.skip("building a wheel without a network needs pip and setuptools in this environment")
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_a_wheel_holds_the_package_and_nothing_else(wheel):
    files = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in files} == {"vampyro", "vampyro-0.1.0.dist-info"}
    expected = {
        (path if (path := file.relative_to(ROOT)).parts[0] == "vampyro" else "vampyro" / path).as_posix()
        for name in FOLDERS
        for file in (ROOT / name).rglob("*")
        if file.suffix in (".py", ".toml", ".jinja", ".typed")
    }
    assert expected == {name for name in files if name.startswith("vampyro/")}


def test_an_installed_wheel_works_next_to_modules_of_the_same_names(wheel, tmp_path):
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    for name in OTHERS:
        (work / f"{name}.py").write_text("MINE = True\n")
    random = np.random.default_rng(0)
    np.savez(work / "images.npz", **{split: random.random((n, 6, 6)) < 0.3 for split, n in SIZES.items()})
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(work)]), "OMP_NUM_THREADS": "1"}

    def python(*words: str) -> str:
        done = subprocess.run([sys.executable, *words], cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    python("-c", AT_THE_PROMPT)
    flags = "--dataset images.npz --epochs 1 --hidden 8 --latent 2 --samples 10 --device cpu --out run"
    assert "test log-likelihood" in python("-m", "vampyro", *flags.split())
    assert "log-likelihood" in python("-m", "vampyro", "score", "run", "--measures", "likelihood", "--samples", "10")
