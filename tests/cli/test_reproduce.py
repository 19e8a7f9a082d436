"""Recipes: every one is valid, small enough shapes of it assemble, and one runs from the command line to its page."""

import re

import pytest

from tests.cli.test_train import call
from tests.sweeps.test_sweep import SMALL, here  # noqa: F401
from vampyro import data
from vampyro.catalogue.assemble import PARTS, assemble
from vampyro.reports.sections import SECTIONS
from vampyro.sweeps import experiments as recipes
from vampyro.sweeps import page
from vampyro.sweeps.sweep import Campaign
from vampyro.sweeps.table import METRICS

every_recipe = pytest.mark.parametrize("name", recipes.names())


@every_recipe
def test_a_recipe_is_valid(name):
    recipe = recipes.read(name)
    made = recipe.cells()
    labels = {cell.label for cell in made}
    assert len(labels) == len(made) and recipe.differs and recipe.hours > 0
    assert {cell.config["dataset"] for cell in made} <= set(data.DATA_SETS)
    assert set(recipe.measures) <= set(SECTIONS)
    for source in recipe.published:
        assert source.metric in METRICS and set(source.values) <= labels
    for condition, _ in recipe.when:
        assert any(condition.items() <= cell.labels.items() for cell in made)


@every_recipe
def test_its_programs_assemble(name):
    import torch

    for config in {repr([c.config[part] for part in PARTS]): c.config for c in recipes.read(name).cells()}.values():
        parts = {part: config[part] for part in PARTS}
        parts["prior"] = re.sub(r":\d+", ":3", parts["prior"])
        model, guide = assemble(**parts, shape=(1, 6, 5), images=torch.rand(3, 1, 6, 5))
        assert model(batch=2).shape == (2, 1, 6, 5)


@every_recipe
def test_a_dry_run_lists_its_runs_and_the_time(name, capsys, tmp_path):
    assert call("reproduce", name, "--dry-run", "--out", tmp_path / "out") is None
    printed = capsys.readouterr().out
    recipe = recipes.read(name)
    count = recipe.seeds * len(recipe.cells())
    assert recipe.title in printed and recipe.source in printed
    assert printed.count(" → ") == count and f"{count} runs in {tmp_path / 'out'}, {count} to do" in printed
    assert re.search(rf"the recipe: {count} runs, about [\d.]+ \w+ on one CPU core", printed)
    assert not (tmp_path / "out").exists()


def test_the_list_has_all_recipes(capsys):
    assert call("reproduce", "--list") is None
    printed = capsys.readouterr().out
    for name in recipes.names():
        assert f"{name}\n    {recipes.read(name).title}" in printed
    assert len(re.findall(r"runs, .* on one CPU core", printed)) == len(recipes.names())


def test_the_planar_lengths_are_those_of_the_source():
    made = recipes.read("planar-lengths").cells()
    assert [cell.config["flow"] for cell in made] == ["none", "planar:3:shared", "planar:5:shared", "planar:8:shared"]
    for config in (cell.config for cell in made):
        assert (config["latent"], config["hidden"], config["activation"]) == (20, [500, 500], "relu,tanh")
        assert (config["lr"], config["batch_size"], config["epochs"], config["optimizer"]) == (1e-3, 128, 100, "adam")


def test_the_grid_is_that_of_its_page():
    recipe = recipes.read("grid")
    made = [cell.label for cell in recipe.cells()]
    assert len(made) == 24 and set(recipe.published[0].values) == set(made)


def test_weights_of_two_terms_are_a_beta():
    """k1 ‖x - x̂‖² + k2 KL and ½ ‖x - x̂‖² + β KL have the same minimisers where β = k2 / (2 k1)."""
    for cell in recipes.read("loss-weights").cells():
        k1 = float(cell.labels["k1"])
        assert cell.config["beta"] == pytest.approx((1 - k1) / (2 * k1), abs=1e-6)
        assert cell.config["likelihood"] == "normal"


RECIPE = """
title = "Blobs"
source = "Nobody, nowhere"
asks = "What of it?"
hours = 0.1
seeds = 2
differs = ["Everything."]
[base]
epochs = 2
latent = 2
[vary.data]
"blobs" = { dataset = "BLOBS" }
"none such" = { dataset = "no/such.npz" }
[vary.prior]
"standard" = { prior = "standard" }
"MoG" = { prior = "mog:2" }
[[published]]
by = "theirs"
metric = "log_likelihood"
[published.values]
"blobs / standard" = [-20.5, 0.25]
"blobs / MoG" = -19.5
"""


def test_from_the_command_line_to_the_page(dataset, tmp_path, here, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    (tmp_path / "blobs.toml").write_text(RECIPE.replace("BLOBS", str(dataset)))
    words = ["reproduce", "blobs", *SMALL, "--out", tmp_path / "out", "--latent", 3]
    status = call(*words, "--page", tmp_path / "docs" / "blobs.md", "--picture", tmp_path / "docs" / "images" / "b.png")
    assert status.startswith("error: 2 not finished") and "data none such · prior MoG" in status
    page = (tmp_path / "docs" / "blobs.md").read_text()
    assert f"8 runs in {tmp_path / 'out'}, 4 to do" in capsys.readouterr().out
    assert "| blobs | standard | 2 | -" in page and "| -20.50 ± 0.25 |" in page and "| -19.50 |" in page
    assert "python run.py reproduce blobs" in page and "--latent 3 (in the recipe 2)" in page
    assert "Not run: none such / standard, none such / MoG." in page and "- Everything." in page
    assert "](images/b.png)" in page and (tmp_path / "docs" / "images" / "b.png").stat().st_size > 1000
    assert str(tmp_path) not in page

    count = len(here)
    assert call(*words, "--only", "blobs / mog") is None and len(here) == count
    assert "--only 'blobs / mog'" in (tmp_path / "out" / "blobs.md").read_text()
    assert "no cell has that in its name" in call(*words, "--only", "vamp")
    assert "--prior is given and varied" in call(*words, "--prior", "mog:3")


def test_the_command_on_the_page_repeats_it(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    (tmp_path / "blobs.toml").write_text(RECIPE.replace("[base]", 'measures = ["elbo"]\n[base]'))
    recipe = recipes.read("blobs")

    def command(seeds, measures):
        work = Campaign(recipe.cells(), seeds, tmp_path, measures)
        text = page.in_full(recipe, work, [], {"latent": 3}, None, "", "")
        return next(line.strip() for line in text.splitlines() if line.startswith("    "))

    plain = "python run.py reproduce blobs --latent 3"
    assert command(range(2), ("elbo",)) == plain
    assert command(range(5, 8), ("elbo", "ais")) == plain + " --seeds 3 --seed 5 --measures elbo,ais"


def test_an_unknown_recipe_is_named():
    assert "did you mean 'vampprior'?" in call("reproduce", "vamprior")
    assert "--list describes them" in call("reproduce")


@pytest.mark.parametrize("text", ["title = 1", "not toml", RECIPE + "\n[extra]\n"])
def test_a_file_that_is_no_recipe_is_named(text, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    (tmp_path / "bad.toml").write_text(text)
    assert "bad.toml is not a recipe" in call("reproduce", "bad")
