"""The training loop and what stands beside it: ramp, cooldown, early stopping, optimiser."""

import math
from itertools import islice

import pytest
import torch
from torch import nn

from vampyro.catalogue.assemble import assemble
from vampyro.data import ImageSet
from vampyro.likelihood import score
from vampyro.objectives import KLWeight
from vampyro.programs.randomness import seeded
from vampyro.training import Cooldown, EarlyStopping, elbo_parts, fit, make_update
from vampyro.training.checkpoint import load_checkpoint, save_checkpoint
from vampyro.training.engines.optimizers import AdamNormGrad


def image_set(binarize="dynamic"):
    """Seven training images: batches of 3, 3 and 1."""
    grey = torch.randint(256, (7, 1, 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    return ImageSet("tiny", train=grey, valid=grey, test=grey).with_binarisation(binarize)


class Training:
    """The programs and their update, from a start that is always the same."""

    def __init__(self):
        torch.manual_seed(0)
        self.model, self.guide = assemble(prior="vamp:2", flow="planar:2", hidden=(6,), latent=2, shape=(1, 2, 3))
        self.both = nn.ModuleList([self.model, self.guide])
        self.update = make_update(self.model, self.guide, lr=1e-2)

    def same_bits(self, other):
        theirs = other.both.state_dict()
        return all(torch.equal(tensor, theirs[name]) for name, tensor in self.both.state_dict().items())


def test_metrics_are_means_over_images_not_over_batches():
    images = image_set("none")

    def update(x):
        return {"brightness": x.mean(), "size": torch.tensor(float(len(x)))}

    metrics = list(fit(update, images, epochs=3, batch_size=3))
    assert [line["epoch"] for line in metrics] == [1, 2, 3]
    for line in metrics:
        assert line["brightness"] == pytest.approx(images.images("train").double().mean().item(), abs=1e-6)
        assert line["size"] == pytest.approx((3 * 3 + 3 * 3 + 1 * 1) / 7, rel=1e-12)
        assert line.keys() == {"epoch", "brightness", "size", "seconds"} and line["seconds"] >= 0


def test_fit_is_the_loop_one_would_write_by_hand():
    ours, by_hand, images = Training(), Training(), image_set()
    metrics = list(fit(ours.update, images, epochs=3, batch_size=3, seed=5))
    for epoch in (1, 2, 3):
        total = 0.0
        with seeded(5, epoch):
            for x in images.batches(3):
                total += by_hand.update(x)["loss"].item() * len(x)
        assert metrics[epoch - 1]["loss"] == pytest.approx(total / 7, rel=1e-12)
    assert ours.same_bits(by_hand)
    assert not ours.same_bits(Training())


def test_epochs_and_seeds_draw_different_numbers():
    def batches(**kwargs):
        seen = []
        list(fit(lambda x: seen.append(x) or {"loss": x.mean()}, image_set(), batch_size=7, **kwargs))
        return seen

    first, second = batches(epochs=2, seed=0)
    assert not torch.equal(first, second)
    assert not torch.equal(first, batches(epochs=1, seed=1)[0])
    assert torch.equal(second, batches(epochs=2, seed=0, first=2)[0])


def nothing(training):
    pass


def draw(training):
    torch.rand(17)


def sample(training):
    with torch.no_grad():
        training.model(batch=5)
        training.guide.q(torch.zeros(4, 1, 2, 3)).sample()
    elbo_parts(training.model, training.guide, torch.zeros(4, 1, 2, 3))
    score(training.model, training.guide, torch.zeros(4, 1, 2, 3), samples=3)


@pytest.mark.parametrize("meanwhile", [nothing, draw, sample])
@pytest.mark.parametrize("stop", [1, 3])
def test_continued_training_is_uninterrupted_training(meanwhile, stop, tmp_path):
    whole, images = Training(), image_set()
    losses = [line["loss"] for line in fit(whole.update, images, epochs=4, batch_size=3, seed=5)]

    begun = Training()
    for line in islice(fit(begun.update, images, epochs=4, batch_size=3, seed=5), stop):
        assert line["loss"] == losses[line["epoch"] - 1]
        meanwhile(begun)
    state = {"both": begun.both.state_dict(), "update": begun.update.state_dict()}
    save_checkpoint(tmp_path / "state.pt", state)

    continued, state = Training(), load_checkpoint(tmp_path / "state.pt")
    continued.both.load_state_dict(state["both"])
    continued.update.load_state_dict(state["update"])
    for line in fit(continued.update, images, epochs=4, batch_size=3, seed=5, first=stop + 1):
        assert line["loss"] == losses[line["epoch"] - 1]
        meanwhile(continued)
    assert line["epoch"] == 4
    assert continued.same_bits(whole)


def test_the_callers_random_numbers_go_on_as_if_nothing_ran():
    training = Training()
    before = torch.get_rng_state()
    for _ in fit(training.update, image_set(), epochs=2, batch_size=3, evaluate=lambda: {"x": torch.rand(()).item()}):
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_sees_the_same_numbers_each_epoch_and_changes_nothing():
    evaluated, plain, images = Training(), Training(), image_set()
    metrics = list(
        fit(evaluated.update, images, epochs=3, batch_size=3, evaluate=lambda: {"draw": torch.rand(()).item()})
    )
    list(fit(plain.update, images, epochs=3, batch_size=3))
    assert len({line["draw"] for line in metrics}) == 1
    assert evaluated.same_bits(plain)


def test_before_epoch_comes_before_and_evaluate_after():
    events = []
    run = fit(
        lambda x: events.append("update") or {"loss": torch.tensor(0.0)},
        image_set(),
        epochs=2,
        batch_size=7,
        before_epoch=[events.append],
        evaluate=lambda: events.append("evaluate") or {},
    )
    next(run)
    assert events == [1, "update", "evaluate"]
    next(run)
    assert events == [1, "update", "evaluate", 2, "update", "evaluate"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_names_its_epoch(bad):
    steps = []

    def update(x):
        steps.append(x)
        return {"loss": torch.tensor(bad if len(steps) == 5 else 1.0)}  # the second batch of epoch 2

    run = fit(update, image_set(), epochs=3, batch_size=3)
    assert next(run)["loss"] == 1.0
    with pytest.raises(FloatingPointError, match="loss .*epoch 2"):
        next(run)


@pytest.mark.parametrize(
    ("beta", "warmup", "expected"),
    [
        (1.0, 4, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]),
        (0.5, 2, [0.25, 0.5, 0.5, 0.5, 0.5, 0.5]),
        (2.0, 0, [2.0] * 6),
        (1.0, 1, [1.0] * 6),
        (0.0, 3, [0.0] * 6),
    ],
)
def test_kl_weight_rises_from_beta_over_warmup_to_beta_and_stays(beta, warmup, expected):
    weight = KLWeight(beta, warmup)
    held, seen = weight.value, []
    for epoch in range(1, 7):
        weight(epoch)
        seen.append(held.item())  # one tensor: who holds it sees it change
    assert seen == expected


@pytest.mark.parametrize(
    ("epochs", "fraction", "expected"),
    [
        (5, 0.0, [1, 1, 1, 1, 1]),
        (5, 0.4, [1, 1, 1, 2 / 3, 1 / 3]),
        (4, 1.0, [4 / 5, 3 / 5, 2 / 5, 1 / 5]),
        (4, 0.25, [1, 1, 1, 1 / 2]),
    ],
)
def test_cooldown_is_constant_and_then_falls_linearly(epochs, fraction, expected):
    rates = []
    schedule = Cooldown(rates.append, lr=0.1, epochs=epochs, fraction=fraction)
    for epoch in range(1, epochs + 1):
        schedule(epoch)
    assert rates == pytest.approx([0.1 * rate for rate in expected], rel=1e-12)


@pytest.mark.parametrize(
    ("scores", "patience", "warmup", "done_at"),
    [
        ([1, 0, 0, 0, 0, 0, 0], 2, 0, 3),
        ([1, 0, 0, 0, 0, 0, 0], 2, 3, 5),  # counted from the end of the ramp
        ([1, 0, 0, 0, 2, 0, 0], 2, 3, 7),  # and from the best epoch after it
        ([1, 0, 0, 2, 0, 0, 0], 2, 3, 6),
        ([1, 0, 2, 0, 3, 0, 4], 2, 0, None),
        ([1, 1, 1, 1, 1, 1, 1], 3, 0, 4),  # no worse is not better
        ([1, math.nan, math.nan, math.nan, 0, 0, 0], 3, 0, 4),
    ],
)
def test_patience_counts_from_the_best_epoch_or_the_end_of_the_ramp(scores, patience, warmup, done_at):
    best = EarlyStopping(nn.Linear(1, 1), patience, warmup)
    done = []
    for epoch, value in enumerate(scores, start=1):
        best(epoch, float(value))
        done.append(best.done)
    assert (done.index(True) + 1 if any(done) else None) == done_at


def test_the_best_epochs_weights_come_back(tmp_path):
    layer = nn.Linear(1, 1)
    best = EarlyStopping(layer, patience=2)

    def epochs(numbered_scores):
        for epoch, value in numbered_scores:
            with torch.no_grad():
                layer.weight.fill_(float(epoch))
            best(epoch, float(value))

    best.restore()  # none yet: nothing happens
    epochs([(1, -5.0), (2, -1.0), (3, -2.0)])
    assert not best.done
    save_checkpoint(tmp_path / "best.pt", best.state_dict())

    best = EarlyStopping(layer, patience=2)
    best.load_state_dict(load_checkpoint(tmp_path / "best.pt"))
    assert (best.epoch, best.score, best.last, best.done) == (2, -1.0, 3, False)
    epochs([(4, -3.0)])
    assert best.done and layer.weight.item() == 4.0
    best.restore()
    assert layer.weight.item() == 2.0


def test_adam_normgrad_is_adam_on_gradients_of_unit_length():
    torch.manual_seed(0)
    start = [torch.randn(3, 2).double(), torch.randn(4).double()]
    ours, by_hand = ([nn.Parameter(t.clone()) for t in start] for _ in range(2))
    optimizer, adam = AdamNormGrad(ours, lr=0.1), torch.optim.Adam(by_hand, lr=0.1)
    for step in range(4):
        for p, q in zip(ours, by_hand):
            gradient = torch.randn_like(p) * 10.0 ** (step - 2)
            p.grad, q.grad = gradient.clone(), gradient / gradient.square().sum().sqrt()
        optimizer.step()
        adam.step()
    for p, q, t in zip(ours, by_hand, start):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
        assert (p - t).abs().max() > 0.1


def test_adam_normgrad_leaves_a_zero_gradient_zero():
    p, absent = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    p.grad = torch.zeros(3)
    AdamNormGrad([p, absent]).step()
    assert torch.equal(p, torch.ones(3)) and torch.equal(absent, torch.ones(3))


def test_adam_normgrad_scales_a_gradient_that_two_share_once():
    p, q = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    p.grad = q.grad = torch.tensor([30.0, 40.0])
    AdamNormGrad([p, q]).step()
    for parameter in (p, q):
        torch.testing.assert_close(parameter.grad, torch.tensor([0.6, 0.8]))


def test_adam_normgrad_without_any_gradient_does_nothing_as_adam_does():
    p = nn.Parameter(torch.ones(3))
    torch.optim.Adam([p]).step()
    AdamNormGrad([p]).step()
    assert torch.equal(p, torch.ones(3))


def test_images_and_data_sets_are_told_apart():
    data = ImageSet("none", *(torch.zeros(4, 1, 2, 2) for _ in range(3)))
    model, guide = assemble(hidden=(8,), latent=2, shape=(1, 2, 2))
    with pytest.raises(TypeError, match="got a Tensor"):
        next(fit(make_update(model, guide), torch.zeros(4, 1, 2, 2), epochs=1))
    with pytest.raises(TypeError, match="got ImageSet|parameter 'images'"):
        score(model, guide, data)
