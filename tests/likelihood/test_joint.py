"""log p(x, z) compiled for scoring against the same Pyro program run eagerly."""

import logging

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch._inductor.cpu_vec_isa import pick_vec_isa
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import softplus

from tests.helpers import as_trained, every
from vampyro.catalogue.assemble import assemble
from vampyro.distributions import DiagonalNormal, FlowDistribution, Mixture
from vampyro.distributions.bernoulli import _sum_of_softplus
from vampyro.flows.planar import Planar
from vampyro.likelihood import log_weights, score
from vampyro.likelihood.joint import Joint
from vampyro.programs import compile as staged
from vampyro.programs.compile import Staged
from vampyro.programs.modes import constant_parts

PAIRS = [
    ("standard", "planar:3"),
    ("mog:40", "planar:3"),
    *(("vamp:40", flow) for flow in every("flow", 3) if "shared" not in flow),
]
X = (torch.rand(7, 1, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5).float()


def programs(prior, flow="none", model="vae"):
    torch.manual_seed(0)
    model, guide = assemble(prior=prior, flow=flow, model=model, latent=3, hidden=(5,), shape=(1, 4, 4))
    as_trained(nn.ModuleList([model, guide]), norm=1.0)
    return model, guide


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(staged, "compile_graph", lambda graph, inputs: graph)


def assert_same(model, guide, caplog, samples=50, rows=100):
    with caplog.at_level(logging.WARNING):
        ours, eager = (score(model, guide, X, samples, rows=rows, compiled=compiled) for compiled in (True, False))
    torch.testing.assert_close(ours.log_likelihood, eager.log_likelihood, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.ess, eager.ess, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model", ["vae", "two-level"])
@pytest.mark.parametrize(("prior", "flow"), PAIRS)
def test_every_program_is_staged(prior, flow, model, no_compiler, caplog):
    assert_same(*programs(prior, flow, model), caplog)
    assert not caplog.records


@pytest.mark.parametrize("flow", ["none", "planar:2"])
def test_what_is_compiled_scores_as_eager_does(flow, caplog):
    assert_same(*programs("vamp:40", flow), caplog)
    assert not caplog.records


@pytest.mark.parametrize("model, site", [("vae", "z"), ("two-level", "z2")])
def test_the_mixture_stays_outside_the_graph_and_its_finding_is_compiled(model, site, no_compiler):
    model, guide = programs("vamp:40", "planar:2", model)
    with constant_parts(model):
        joint = Joint(model, compiled=True)
        list(log_weights(model, guide, X, 5, joint=joint))
    assert list(joint.mixtures) == [site]
    assert isinstance(joint.mixtures[site].find, Staged) and joint.mixtures[site].find.compiled
    assert joint.program.compiled


class Told(nn.Module):
    """A mixture that depends on x is no constant, and its refinement no graph."""

    def forward(self, x=None):
        with pyro.plate("images", len(x)):
            means = torch.linspace(-1, 1, 80).reshape(40, 2) + x.mean()
            planar = Planar(means[:, None], means[:, None], means[:, :1])
            z = pyro.sample("z", Mixture(FlowDistribution(DiagonalNormal(means, torch.ones(40, 2)), planar)))
            logits = z.sum(-1)[..., None, None, None].expand(*z.shape[:-1], 1, 4, 4)
            return pyro.sample("x", dist.Bernoulli(logits=logits).to_event(3), obs=x)


def told_guide(x):
    with pyro.plate("images", len(x)):
        pyro.sample("z", DiagonalNormal(torch.zeros(len(x), 2), torch.ones(len(x), 2)))


def test_a_mixture_that_depends_on_x_is_scored_eagerly(caplog):
    assert_same(Told(), told_guide, caplog)
    (record,) = caplog.records
    assert "scoring goes on eagerly" in record.getMessage()


def test_a_site_that_a_handler_scales_stays_in_the_whole(no_compiler, caplog):
    model, guide = programs("vamp:40", "planar:2")
    assert_same(pyro.poutine.scale(model, 0.5), guide, caplog)


@pytest.mark.parametrize("reason", ["no C++ compiler was found", "returns other values"])
def test_where_it_cannot_compile_it_says_so_and_scores_eagerly(reason, monkeypatch, caplog):
    def broken(graph, inputs):
        if "compiler" in reason:
            raise RuntimeError(f"{reason}\nand much more")
        return lambda *inputs: 1.01 * graph(*inputs)

    monkeypatch.setattr(staged, "compile_graph", broken)
    model, guide = programs("standard")
    assert_same(model, guide, caplog)
    (record,) = caplog.records
    assert reason in record.getMessage() and "\n" not in record.getMessage()


def test_other_shapes_go_the_functions_own_way(no_compiler):
    calls = []
    double = Staged(lambda x: calls.append(len(x)) or 2 * x)
    for size in (3, 3, 2, 3):
        torch.testing.assert_close(double(torch.ones(size)), torch.full((size,), 2.0))
    assert calls == [3, 3, 2]  # computed once, traced once


@pytest.mark.parametrize("shape", [(), (2,), (50, 2)], ids=str)
def test_what_was_compiled_before_is_found_again(shape, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    counters["inductor"].clear()
    for seed, hits in ((0, 0), (0, 1), (1, 1)):  # and with a constant of another value computes another function
        constant = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        found = Staged(lambda x: (x * constant).exp().sum(-1))
        for x in torch.randn(3, 50, 2):
            torch.testing.assert_close(found(x), (x * constant).exp().sum(-1))
        assert found.compiled and counters["inductor"]["fxgraph_cache_hit"] >= hits


def test_what_is_kept_is_kept_for_this_processors_vectors(monkeypatch):
    """What was compiled for others corrupts memory."""
    tags = []

    def compile(graph, inputs, options):
        tags.append(torch.compiler.config.cache_key_tag)
        return graph

    monkeypatch.setattr(torch._inductor, "compile", compile)
    with torch.compiler.config.patch(cache_key_tag="mine"):
        staged.compile_graph(None, [torch.ones(2)])
        assert torch.compiler.config.cache_key_tag == "mine"
    (tag,) = tags
    assert tag.startswith("mine ") and tag.endswith(str(pick_vec_isa()))


@pytest.mark.parametrize("pixels", [16, 784, 1600, 1616, 15])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_the_logarithm_of_a_product_is_the_sum_of_softplus(pixels, scale):
    logits = scale * torch.randn(20, pixels)
    truth = softplus(logits.double()).sum(-1)
    traced = make_fx(lambda logits: _sum_of_softplus(logits))(logits)
    for ours in (traced(logits), _sum_of_softplus(logits)):
        torch.testing.assert_close(ours.double(), truth, rtol=1e-6, atol=1e-5)
    used = {node.target for node in traced.graph.nodes}
    assert (torch.ops.aten.softplus.default in used) == (pixels in (1616, 15))
