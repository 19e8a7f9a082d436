"""What a part prints: one line that says what it is, and a short tree for the whole."""

import pytest
import torch

from tests.helpers import every, pairs
from vampyro.catalogue import assemble, specs

SHAPE = (1, 8, 8)


def build(prior="standard", flow="none"):
    images = torch.rand(9, *SHAPE)
    return assemble.assemble(prior=prior, flow=flow, hidden=(16, 12), latent=3, shape=SHAPE, images=images)


def one_line(part, *words):
    text = repr(part)
    assert "\n" not in text and len(text) <= 100
    assert text.startswith(type(part).__name__ + "(") and text.endswith(")")
    for word in words:
        assert word in text, f"{word!r} is not in {text}"


@pytest.mark.parametrize("spec", every("prior", 7))
def test_prior_says_its_size_and_options(spec):
    prior, spec = build(prior=spec)[0].prior, specs.parse("prior", spec)
    shape = "1×8×8" if prior.pseudo_inputs() is not None else "3"
    one_line(prior, shape, *([str(spec.n)] if spec.n else []))
    assert ("learned weights" in repr(prior)) == ("weighted" in spec.options)
    assert ("fixed" in repr(prior)) == ("fixed" in spec.options)


@pytest.mark.parametrize(("prior", "flow"), pairs(7))
def test_the_distributions_are_one_line_too(prior, flow):
    model, guide = build(prior, flow)
    p, q = model.prior(), guide.q(torch.zeros(5, *SHAPE))
    mixture = prior.split(":")[0] in ("mog", "vamp", "vamp-base")
    one_line(p, "7 ×" if mixture else "event 3")
    assert ("learned weights" in repr(p)) == ("weighted" in prior)
    one_line(q, "batch 5", "event 3")
    one_line(q.expand((4, 5)), "batch 4×5", "event 3")


@pytest.mark.parametrize("spec", [spec for spec in every("flow", 7) if spec != "none"])
def test_flow_and_its_transform_say_their_length(spec):
    flow = build(flow=spec)[1].flow
    one_line(flow, "7", "shared" if "shared" in spec else "amortised")
    one_line(flow(torch.zeros(5, 12)), "7")


def test_bodies_and_heads_say_their_widths():
    model, guide = build()
    one_line(guide.body, "1×8×8 → 16 → 12", "gated")
    one_line(guide.head, "12 → 3")
    one_line(model.decoder[0], "3 → 12 → 16", "gated")
    one_line(model.decoder[1], "16 → 1×8×8")


@pytest.mark.parametrize(("prior", "flow"), pairs(7))
def test_model_and_guide_are_a_short_tree_of_these_lines(prior, flow):
    model, guide = build(prior, flow)
    for whole, parts in ((model, [model.prior, *model.decoder]), (guide, guide.children())):
        lines = repr(whole).splitlines()
        assert len(lines) <= 8 and max(map(len, lines)) <= 100
        for part in parts:
            assert any(line.endswith(repr(part)) for line in lines)
