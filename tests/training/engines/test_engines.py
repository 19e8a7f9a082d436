"""Engines beside eager: the same gradients, no question to the device, and a word when they cannot."""

import contextlib
import logging

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.helpers import Waits, as_trained, build_part, distinct_pairs, every, posterior_for
from vampyro.catalogue import specs
from vampyro.catalogue.assemble import assemble
from vampyro.data import ImageSet
from vampyro.objectives import Trace_ELBO
from vampyro.programs import compile as staged
from vampyro.training import fit, make_update
from vampyro.training.engines.compiled import CompiledStep
from vampyro.training.engines.cuda_graph import GraphStep, _Recording
from vampyro.training.engines.eager import EagerStep
from vampyro.training.engines.make import ENGINES

SHAPE = (1, 4, 5)
each_pair = pytest.mark.parametrize(("prior", "flow"), distinct_pairs(2))


def images(count=7):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(3)).round()


def programs(prior="vamp:3", flow="planar:2", model="vae", **parts):
    torch.manual_seed(0)
    model, guide = assemble(
        prior=prior, flow=flow, model=model, hidden=(8,), latent=3, shape=SHAPE, images=lambda: images(9), **parts
    )
    as_trained(nn.ModuleList([model, guide]), norm=1.0)
    return model, guide


def objective(text="elbo"):
    spec = specs.parse("objective", text)
    return build_part("objective", spec, SHAPE)


def gradients(step, x):
    torch.manual_seed(1)
    loss = step.backward(x)
    return loss, {name: p.grad for name, p in step.parameters.items()}


def assert_engine_is_eager(model, guide, text="elbo", weight=0.7, atol=0.0):
    """Compare the second gradient, because the first is eager anyway; return both steps."""
    torch.manual_seed(2)
    arguments = torch.tensor(weight), "adam", 1e-3, objective(text)
    eager, compiled = EagerStep(model, guide, *arguments), CompiledStep(model, guide, *arguments)
    for x in (images(), images(7).flip(0)):
        expected_loss, expected = gradients(eager, x)
        loss, found = gradients(compiled, x)
    assert compiled.staged is not None
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=0)
    for name, gradient in expected.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            torch.testing.assert_close(found[name], gradient, rtol=0, atol=atol * gradient.abs().max().item(), msg=name)
    return eager, compiled


@pytest.fixture
def no_compiler(monkeypatch):
    """The graph as traced, run by torch's interpreter: what is traced is tested, not the compiler."""
    monkeypatch.setattr(staged, "compile_graph", lambda graph, inputs: graph)


@each_pair
def test_what_is_staged_is_eager_bit_for_bit_and_neither_waits_for_the_device(prior, flow, no_compiler):
    for step in assert_engine_is_eager(*programs(prior, flow)):
        # Only backward, because torch's own fused Adam reads its step counter on a CPU.
        with Waits() as waits:
            step.backward(images())
        assert waits.count == 0, type(step).__name__


@pytest.mark.parametrize("text", [t for t in every("objective", 3) if "compiled" in (objective(t).engines or ENGINES)])
@pytest.mark.parametrize("model", ["vae", "two-level"])
def test_every_objective_and_model_is_staged(text, model, no_compiler):
    posterior = posterior_for(text)
    flow = "planar:2" if posterior == "normal" else "none"
    assert_engine_is_eager(*programs(model=model, posterior=posterior, flow=flow), text=text)


@pytest.mark.parametrize("likelihood", [t for t in every("likelihood", 1) if "bernoulli" in t])
@pytest.mark.parametrize("net", ["mlp"])
def test_likelihoods_are_staged(likelihood, net, no_compiler):
    assert_engine_is_eager(*programs(likelihood=likelihood, net=net))


@pytest.mark.parametrize(("prior", "flow"), [("standard", "none"), ("vamp:3:weighted", "planar:2")])
def test_what_is_compiled_is_eager_to_rounding(prior, flow):
    assert_engine_is_eager(*programs(prior, flow), atol=2e-5)


def test_compiling_leaves_the_validation_of_distributions_as_it_was():
    model, guide = programs("standard", "none")
    before = torch.distributions.Distribution._validate_args
    update = make_update(model, guide, engine="compiled")
    update(images())
    assert torch.distributions.Distribution._validate_args == before
    with pytest.raises(ValueError):
        torch.distributions.Normal(0.0, torch.tensor(-1.0))


def test_the_weight_of_the_kl_term_and_the_learning_rate_still_change(no_compiler):
    weight = torch.tensor(1.0)
    model, guide = programs()
    compiled = make_update(model, guide, weight=weight, engine="compiled", lr=0.0)
    losses = []
    for value in (1.0, 0.1, 1.0):
        weight.fill_(value)
        torch.manual_seed(1)
        losses.append(compiled(images())["loss"].item())
    assert losses[0] == losses[2] != losses[1]
    compiled.set_lr(1e-2)
    compiled(images())
    torch.manual_seed(1)
    assert compiled(images())["loss"].item() != losses[0]


def test_a_short_batch_goes_the_eager_way(no_compiler):
    results = []
    for engine in ("eager", "compiled"):
        update = make_update(*programs(), engine=engine, lr=1e-2)
        losses = []
        for size in (5, 5, 2, 5):
            torch.manual_seed(size)
            losses.append(update(images(size))["loss"])
        results.append(torch.stack(losses))
    assert torch.equal(*results)


@pytest.mark.parametrize("frozen_after", [0, 2])
@pytest.mark.parametrize("optimizer", ["adam", "adam-normgrad"])
def test_what_is_frozen_stays_and_what_is_thawed_moves(frozen_after, optimizer, no_compiler):
    results = []
    for engine in ("eager", "compiled"):
        model, guide = programs()
        update = make_update(model, guide, engine=engine, optimizer=optimizer, lr=1e-2)
        decoder = []
        for step in range(6):
            model.decoder.requires_grad_(not frozen_after <= step < frozen_after + 2)
            torch.manual_seed(step)
            update(images())
            decoder.append(nn.utils.parameters_to_vector(model.decoder.parameters()).detach())
        if frozen_after:  # of Adam's memory nothing moves what has no gradient
            assert torch.equal(decoder[1], decoder[3])
        assert not torch.equal(decoder[3], decoder[4])
        results.append(torch.cat([*decoder, nn.utils.parameters_to_vector(guide.parameters())]))
        assert engine == "eager" or update.staged is not None
    assert torch.equal(*results)


def test_a_mean_over_batches_moves_once_a_step(no_compiler):
    means = []
    for engine in ("svi", "eager", "compiled"):
        model, guide = programs("standard", "none")
        guide.body = nn.Sequential(guide.body, nn.BatchNorm1d(8, momentum=None))
        update = make_update(model, guide, engine=engine)
        for step in range(3):
            torch.manual_seed(step)
            update(images())
        assert guide.body[1].num_batches_tracked == 3
        means.append(guide.body[1].running_mean)
    torch.testing.assert_close(means[1], means[0], rtol=1e-4, atol=1e-6)
    assert torch.equal(means[1], means[2])


def test_a_batch_with_other_strides_goes_the_eager_way(no_compiler):
    results = []
    for engine in ("eager", "compiled"):
        update = make_update(*programs(), engine=engine, lr=1e-2)
        for x in (images(), images().mT.contiguous().mT, images()):
            torch.manual_seed(0)
            loss = update(x)["loss"]
        results.append(loss)
    assert update.conditions(images()) == update.compiled_for != update.conditions(images().mT.contiguous().mT)
    assert torch.equal(*results)


class Branching(nn.Module):
    """A model that looks at a tensor's value, which no trace can follow."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x=None):
        if x.sum() > 0:
            return self.model(x)
        return self.model(1 - x)


@pytest.mark.parametrize("reason", ["branch", "compiler", "wrong"])
def test_where_it_cannot_compile_it_says_so_and_trains_eagerly(reason, monkeypatch, caplog):
    def broken(graph, inputs):
        if reason == "compiler":
            raise RuntimeError("no C++ compiler was found\nand much more")

        def wrong(*args):
            loss, found = graph(*args)
            return loss, [None if g is None else 1.01 * g for g in found]

        return wrong

    model, guide = programs()
    if reason == "branch":
        model = Branching(model)
    else:
        monkeypatch.setattr(staged, "compile_graph", broken)
    update, expected = make_update(model, guide, engine="compiled", lr=1e-2), make_update(*programs(), lr=1e-2)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            torch.manual_seed(2)
            ours = update(images())["loss"]
            torch.manual_seed(2)
            assert torch.equal(ours, expected(images())["loss"])
    (record,) = caplog.records
    words = {"branch": "cannot compile", "compiler": "no C++ compiler", "wrong": "off by 0.01"}[reason]
    assert words in record.getMessage() and "\n" not in record.getMessage() and "eagerly" in record.getMessage()


class Tiny:
    """Data on any device, even on one that computes nothing."""

    def __init__(self, to):
        self.train = to(torch.randint(256, (12, *SHAPE), dtype=torch.uint8))
        self.device, self.indices = self.train.device, to(torch.arange(12))
        self.batch = ImageSet.batch.__get__(self)
        self.binarize, self.noise, self.classes = "dynamic", 0.0, None

    def order(self):
        return self.indices


def moved(program, to):
    for part in program.modules():
        for name, p in part._parameters.items():
            part._parameters[name] = p if p is None else nn.Parameter(to(p.detach()))
        for name, b in part._buffers.items():
            part._buffers[name] = b if b is None else to(b)


@each_pair
@pytest.mark.parametrize("how", ["fake", "meta"])
def test_the_recorded_step_looks_at_no_value_and_stays_on_its_device(prior, flow, how, no_streams, monkeypatch):
    """What a CUDA graph records, on tensors without values: fake ones stop at every question about one, and meta ones
    at every tensor that another device holds. The optimiser is torch's own and left out."""
    model, guide = programs(prior, flow)
    mode = FakeTensorMode() if how == "fake" else contextlib.nullcontext()
    to = mode.from_tensor if how == "fake" else (lambda t: t.to("meta"))
    if how == "meta":
        monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())  # knows no meta
    step = GraphStep(model, guide, torch.tensor(1.0), "adam", 1e-3, Trace_ELBO())
    moved(step.program, to)
    step.parameters, step.weight = dict(step.program.named_parameters()), to(step.weight)
    step.checked, step.optimizer.step = True, lambda: None
    with mode:
        data = Tiny(to)
        recording = _Recording(step, data, 4, data.order())
        recording.body()
        recording.body()
    assert recording.total.device.type == ("meta" if how == "meta" else "cpu")
    assert all(p.grad is not None for p in step.parameters.values())


def grey_images(count):
    grey = torch.randint(256, (count, *SHAPE), dtype=torch.uint8)
    return ImageSet("tiny", grey, grey, grey)


def on_cpu(Step):
    """A step whose optimiser does not insist on CUDA."""
    step = Step(*programs(), torch.tensor(1.0), "adam", 1e-2, Trace_ELBO())
    for group in step.optimizer.param_groups:
        group["capturable"] = False
    return step


def test_the_recorded_epoch_is_the_eager_epoch(no_streams, monkeypatch):
    """With a graph that runs the body again, as CUDA's does: order, cursor, short batch and sum are right."""

    class Replayed:
        def __init__(self):
            self.body = None

        def replay(self):
            self.body()

    class Capture(contextlib.nullcontext):
        def __init__(self, graph, stream):
            graph.body = recording[-1].body
            super().__init__()

        def __enter__(self):  # what runs while CUDA records is not computed
            self.body, recording[-1].body = recording[-1].body, lambda: None

        def __exit__(self, *error):
            recording[-1].body = self.body

    recording = []
    original = _Recording.__init__
    monkeypatch.setattr(_Recording, "__init__", lambda self, *a: (original(self, *a), recording.append(self))[0])
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Replayed)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    data = grey_images(23).with_binarisation("dynamic")
    results = []
    for Step in (EagerStep, GraphStep):
        step = on_cpu(Step)
        metrics = list(fit(step, data, epochs=3, batch_size=4))
        results.append(([line["loss"] for line in metrics], step.program.state_dict()))
    assert len(recording) == 1 and recording[0].graph is not None
    (expected_losses, expected), (losses, found) = results
    assert losses == pytest.approx(expected_losses, rel=1e-6)  # a recorded learning rate is a float32
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6, msg=name)


def test_graph_is_refused_away_from_cuda():
    with pytest.raises(ValueError, match="CUDA"):
        make_update(*programs(), engine="graph")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_graph_computes_what_eager_computes():
    data = grey_images(1050).with_binarisation("dynamic").to("cuda")
    results = []
    for engine in ("eager", "graph"):
        model, guide = programs()
        both = nn.ModuleList([model, guide]).cuda()
        update = make_update(model, guide, engine=engine, lr=1e-3)
        losses = [line["loss"] for line in fit(update, data, epochs=5, batch_size=100)]
        results.append((losses, both.state_dict()))
    (expected, _), (losses, _) = results
    assert losses == pytest.approx(expected, rel=0.02) and losses[-1] < losses[0]
    assert update.graph.graph is not None  # and was not refused


def test_a_replay_that_is_not_the_step_is_refused(no_streams, monkeypatch, caplog):
    class Idle(contextlib.nullcontext):
        def __init__(self, graph=None, stream=None):
            super().__init__()

        def replay(self):
            pass

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Idle)
    monkeypatch.setattr(torch.cuda, "graph", Idle)
    data = grey_images(8).with_binarisation("threshold")
    results = []
    for eager in (True, False):
        step = on_cpu(GraphStep)
        recording = _Recording(step, data, 4, torch.arange(8))
        recording.body(), recording.start(torch.arange(8))
        torch.manual_seed(1)
        if eager:
            recording.body()
        else:
            body, calls = recording.body, []  # the first call is the recording, which computes nothing
            recording.body = lambda: calls.append(1) or (body() if len(calls) > 1 else None)
            assert recording.record()
            assert recording.graph is None and recording.refused
        results.append([p.clone() for p in step.parameters.values()])
    assert "the replay differs from the eager step" in caplog.text
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_a_step_that_cannot_be_recorded_is_computed_eagerly(no_streams, monkeypatch, caplog):
    def refuses(graph, stream):
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        except RuntimeError:
            raise RuntimeError("capture failed due to a previous error")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", refuses)
    data = grey_images(23).with_binarisation("dynamic")
    results = []
    for Step in (EagerStep, GraphStep):
        step = on_cpu(Step)
        results.append([line["loss"] for line in fit(step, data, epochs=2, batch_size=4)])
    assert results[1] == pytest.approx(results[0], rel=1e-6)
    (record,) = caplog.records
    assert "not permitted" in record.getMessage() and "eagerly" in record.getMessage()


def test_one_small_wrong_gradient_is_noticed(monkeypatch, caplog):
    """The prior's weights are three numbers among hundreds."""

    def wrong(graph, inputs):
        def run(parameters, buffers, *inputs):
            loss, found = graph(parameters, buffers, *inputs)
            smallest = min(range(len(found)), key=lambda i: found[i].norm())
            return loss, [2 * g if i == smallest else g for i, g in enumerate(found)]

        return run

    monkeypatch.setattr(staged, "compile_graph", wrong)
    model, guide = programs("vamp:3:weighted")
    make_update(model, guide, engine="compiled")(images())
    assert "off by 1 of its length" in caplog.text
