"""Every prior × posterior × model, and every pair of the other choices: each combination trains, samples and scores."""

from itertools import combinations, product

import pytest
import torch
from torch import nn

from tests.helpers import build_part, every, pairs, posterior_for
from vampyro.catalogue import assemble, compatibility, specs
from vampyro.catalogue.parts import FAMILIES
from vampyro.distributions.labelled import join, one_hot
from vampyro.likelihood import score, scoring_guide
from vampyro.programs.randomness import seeded
from vampyro.runs import config as flags
from vampyro.training import make_update
from vampyro.training.checkpoint import load_checkpoint, save_checkpoint
from vampyro.training.engines.make import ENGINES

SHAPE, CLASSES = (1, 5, 6), 3


def images(likelihood="bernoulli", condition="none", count=6):
    grey = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))
    x = grey.round() if likelihood == "bernoulli" else (255 * grey).round() / 255
    return join(x, one_hot(torch.arange(count) % CLASSES, CLASSES)) if condition == "label" else x


def build(objective="elbo", **parts):
    objective = compatibility.resolve_objective(objective, parts.setdefault("posterior", posterior_for(objective)))
    spec, x = specs.parse("objective", objective), images(condition=parts.get("condition", "none"))
    latent = 8 if parts["posterior"].startswith("vq") else 3  # two codes
    sizes = {"hidden": (8, 7), "latent": latent, "shape": SHAPE, "classes": CLASSES}
    model, guide = assemble.assemble(**parts, **sizes, images=x)
    return model, guide, nn.ModuleList([model, guide]), build_part("objective", spec, x.shape[1:])


def check(tmp_path=None, **parts):
    """A finite loss, a gradient for every parameter, samples and a score.

    With `tmp_path` also the same loss with stock Pyro, if the objective supports it, and samples from a checkpoint.
    """
    x = images(parts.get("likelihood", "bernoulli").split(":")[0], parts.get("condition", "none"))
    losses, after = [], []
    engines = ["eager"]
    if tmp_path and "svi" in (build(**parts)[-1].engines or ENGINES):
        engines = ["svi", "eager"]
    for engine in engines:
        with seeded(0):
            model, guide, both, objective = build(**parts)
            update = make_update(model, guide, engine=engine, lr=1e-3, objective=objective)
            before = {name: p.detach().clone() for name, p in both.named_parameters()}
            losses.append([update(x)["loss"].item() for _ in range(2)])
            after.append(dict(both.named_parameters()))
    still = [name for name, p in both.named_parameters() if torch.equal(p, before[name])]
    assert still == [], "no gradient reaches these"
    assert torch.tensor(losses).isfinite().all()
    assert losses[0] == pytest.approx(losses[-1], rel=1e-5)
    for name, p in after[0].items():  # Adam's first steps are of length lr whatever the rounding, or its sign
        assert (p - after[-1][name]).abs().max() < 4.1e-3, name

    with torch.no_grad():
        sample = model(batch=4)
    assert sample.shape == (4, *x.shape[1:]) and sample.isfinite().all()
    result = score(model, scoring_guide(model, guide, x, steps=2), x, samples=5)  # where it has a density, the guide
    assert result.log_likelihood.isfinite().all() and (result.log_likelihood >= result.elbo - 1e-9).all()
    if tmp_path is None:
        return

    save_checkpoint(tmp_path / "checkpoint.pt", {"parts": parts, "weights": both.state_dict()})
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    again_model, again_guide, again, _ = build(**saved["parts"])
    again.load_state_dict(saved["weights"])
    samples = []
    for pair in ((model, guide), (again_model, again_guide)):
        with seeded(1), torch.no_grad():
            samples.append((pair[1](x), pair[0](batch=4)))
    torch.testing.assert_close(*samples, rtol=0, atol=0)


# All pairs, without those that differ only in initial values and in what a flow depends on; these are in `pairs`.
GRID = pairs(2) + [
    (prior, flow)
    for prior, flow in product(every("prior", 2), every("flow", 2))
    if "from-data" not in prior and "shared" not in flow and (prior, flow) not in pairs(2)
]


@pytest.mark.parametrize("model", FAMILIES["model"])
@pytest.mark.parametrize(("prior", "flow"), GRID)
def test_every_prior_with_every_posterior_and_model(prior, flow, model, tmp_path):
    """Every prior next to one flow, and every flow next to one prior, with stock Pyro and checkpoints too."""
    check(tmp_path if (prior, flow) in pairs(2) else None, prior=prior, flow=flow, model=model)


CONDITIONS = [condition for condition in every("condition", 2) if condition != "none"]


@pytest.mark.parametrize("flow", every("flow", 2))
@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_with_every_posterior(condition, flow, tmp_path):
    check(tmp_path, condition=condition, flow=flow, model="two-level")


@pytest.mark.parametrize("prior", [prior for prior in every("prior", 2) if prior.count(":") < 3])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_with_every_prior(condition, prior, tmp_path):
    check(tmp_path, condition=condition, prior=prior)


CHOICES = {
    "likelihood": every("likelihood", 2),
    "net": list(FAMILIES["net"]),
    "activation": list(FAMILIES["activation"]),
    "objective": every("objective", 3),
    "condition": CONDITIONS,
    "model": list(FAMILIES["model"]),
    "prior": ["vamp:2", "coupling:2"],
    "flow": ["planar:2", "iaf:2"],
    "posterior": every("posterior", 3),
}


def refused(likelihood="bernoulli", net="mlp", activation="gated", model="vae", objective="elbo", **parts):
    """Why a combination is, or None."""
    parts.setdefault("posterior", posterior_for(objective))
    try:
        compatibility.check_posterior(**parts, model=model, objective=objective, bits=3 if model == "vae" else 6)
    except specs.SpecError as error:
        return str(error)


PAIRS = [
    {one: a, other: b}
    for one, other in combinations(CHOICES, 2)
    if not {one, other} <= {"model", "prior", "flow"}
    for a, b in product(CHOICES[one], CHOICES[other])
]
PAIRS += [
    {"posterior": posterior, "model": model, "prior": prior}
    for posterior in FAMILIES["posterior"]
    if posterior != "normal"
    for model, prior in product(FAMILIES["model"], every("prior", 2, posterior))
]


@pytest.mark.parametrize(
    "parts", [parts for parts in PAIRS if not refused(**parts)], ids=lambda p: "-".join(p.values())
)
def test_every_pair_of_choices(parts, tmp_path):
    """Stock Pyro and checkpoints for the choices that change the programs or the loss."""
    check(tmp_path if parts.keys() & {"objective", "posterior", "condition"} else None, **parts)


@pytest.mark.parametrize("parts", [parts for parts in PAIRS if refused(**parts)], ids=lambda p: "-".join(p.values()))
def test_what_is_refused_is_refused_before_any_work(parts, capsys):
    """By both names, on the command line, and where there is something to assemble there as well."""
    parts = {"posterior": posterior_for(parts.get("objective", "elbo"))} | parts
    said = refused(**parts)
    assert (parts["posterior"] in said or "label" in said) and any(
        parts.get(family, "") in said for family in ("prior", "flow", "model", "objective")
    )
    with pytest.raises(SystemExit):
        flags.read([word for family, spec in parts.items() for word in (f"--{family}", spec)] + ["--latent", "3"])
    assert said in capsys.readouterr().err
    if "objective" not in parts:
        with pytest.raises(specs.SpecError, match="does not go with posterior"):
            build(**parts)


@pytest.mark.parametrize("net", FAMILIES["net"])
@pytest.mark.parametrize("model", FAMILIES["model"])
def test_the_last_layer_that_reads_images_may_have_another_activation(net, model, tmp_path):
    check(tmp_path, net=net, model=model, activation="relu,tanh")
    model, guide = assemble.assemble(net=net, model=model, activation="relu,tanh", hidden=(8, 7), latent=3, shape=SHAPE)
    upper = guide.upper if hasattr(guide, "upper") else guide
    kinds = [module for module in upper.body.modules() if isinstance(module, nn.Tanh | nn.ReLU)]
    assert [isinstance(kind, nn.Tanh) for kind in kinds] == [False] * (len(kinds) - 1) + [True]
    assert not any(isinstance(module, nn.Tanh) for module in model.modules())


@pytest.mark.parametrize("flow", ["planar:2,none", "none,iaf:2", "coupling:2,radial:2"])
def test_two_levels_may_have_two_flows_and_two_sizes(flow):
    model, guide = assemble.assemble(model="two-level", flow=flow, hidden=(8,), latent=(5, 2), shape=SHAPE)
    z1, z2 = guide(images())
    assert z1.shape == (6, 5) and z2.shape == (6, 2)
    for part, spec in zip((guide.lower, guide.upper), flow.split(",")):
        assert (part.flow is None) == (spec == "none")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (dict(flow="planar:2,none"), "flow 'planar:2,none': expected one"),
        (dict(model="two-level", flow="none,none,none"), "expected one, or 2 with commas"),
        (dict(latent=(3, 2)), "a pair is for --model two-level"),
        (dict(model="two-level", latent=(3, 2, 1)), "or a pair for z1 and z2"),
        (dict(prior="aggregate"), "for scoring only"),
        (dict(posterior="vq:8", latent=6), "posterior 'vq:8' cuts z into codes of 4 numbers.* got 6"),
        (dict(posterior="vq:8", flow="planar:2"), "flow 'planar:2' .* 'vq:8'"),
        (dict(posterior="vq:8", model="two-level"), "model 'two-level' .* 'vq:8'"),
        (dict(activation="relu,tanh,relu"), "expected one, or 2 with commas"),
    ],
)
def test_what_does_not_fit_a_model_is_said(parts, message):
    with pytest.raises(specs.SpecError, match=message):
        assemble.assemble(shape=SHAPE, **parts)


@pytest.mark.parametrize("values", ["binary", "levels", "unit"])
@pytest.mark.parametrize("likelihood", FAMILIES["likelihood"])
def test_a_pair_is_refused_only_where_supports_differ(likelihood, values):
    """What is refused has no mass on such images, and what is not refused has."""
    x = {"binary": [0.0, 1.0], "levels": [0.2, 0.6], "unit": [0.2001, 0.7303]}[values]
    x = torch.tensor(x).repeat(15).view(1, *SHAPE)
    spec = specs.parse("likelihood", likelihood)
    p = build_part("likelihood", spec, 4, SHAPE)(torch.zeros(1, 4))
    fits = bool(p.support.check(x).all())
    if fits:
        compatibility.check_likelihood(likelihood, values, "blobs")
    else:
        with pytest.raises(specs.SpecError, match=f"'{likelihood}'.* but blobs is"):
            compatibility.check_likelihood(likelihood, values, "blobs")
