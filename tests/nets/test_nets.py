"""Activations against their formulas and at their start; convolutional nets against themselves image by image."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.helpers import gap
from vampyro.nets import MLP, BernoulliHead, ConvDecoder, ConvEncoder, SmallConvDecoder, SmallConvEncoder
from vampyro.nets.likelihoods import ToImage
from vampyro.nets.mlp import ACTIVATIONS, activation_layer

SIZES = [(1, 1, 1), (3, 1, 2), (3, 5, 7), (1, 28, 28), (1, 33, 17)]
FORMULAS = {
    "gated": lambda a, dim: a.chunk(2, dim)[0] / (1 + (-a.chunk(2, dim)[1]).exp()),
    "relu": lambda a, dim: a * (a > 0),
    "leaky-relu": lambda a, dim: torch.maximum(a, a / 100),
    "softplus": lambda a, dim: (1 + a.exp()).log(),
    "tanh": lambda a, dim: 1 - 2 / (1 + (2 * a).exp()),
}
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
every_size = pytest.mark.parametrize("shape", SIZES, ids=str)


def encoder(net):
    return lambda shape, activation: (net(shape, (12, 8), activation), shape)


def decoder(net):
    return lambda shape, activation: (net(6, shape, activation), (6,))


NETS = {
    "mlp": encoder(MLP),
    "conv encoder": encoder(ConvEncoder),
    "small conv encoder": encoder(SmallConvEncoder),
    "conv decoder": decoder(ConvDecoder),
    "small conv decoder": decoder(SmallConvDecoder),
}
every_net = pytest.mark.parametrize("name", NETS)


def output(net):
    return net.features if isinstance(net.features, tuple) else (net.features,)


# Activations


@every_activation
def test_an_activated_layer_is_its_formula(activation):
    torch.set_default_dtype(torch.float64)
    layer, x = activation_layer(nn.Linear, 7, 5, activation), torch.randn(2, 3, 7)
    nn.init.normal_(layer[0].bias)
    assert gap(layer(x), FORMULAS[activation](x @ layer[0].weight.T + layer[0].bias, -1)) < 1e-13
    for kind in (nn.Conv2d, nn.ConvTranspose2d):
        layer, x = activation_layer(kind, 3, 5, activation, kernel_size=4, stride=2, padding=1), torch.randn(2, 3, 6, 8)
        nn.init.normal_(layer[0].bias)
        assert layer(x).shape[:2] == (2, 5)
        assert gap(layer(x), FORMULAS[activation](layer[0](x), 1)) < 1e-13


def chain(x, layer, depth=4):
    for _ in range(depth):
        x = layer()(x)
    return x


@torch.no_grad()
@every_activation
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_the_start_carries_a_signal_through_four_layers(kind, activation):
    """Its size, and the variance between inputs, which is what the next layer can use."""
    if kind == "linear":
        x = chain(torch.randn(400, 256), lambda: activation_layer(nn.Linear, 256, 256, activation))
    else:
        size = {"kernel_size": 3, "padding": 1}
        x = chain(torch.randn(40, 64, 9, 9), lambda: activation_layer(nn.Conv2d, 64, 64, activation, **size))
    assert 1 / 16 < x.square().mean() < 4
    assert 1 / 16 < x.var(0).mean() < 1


@torch.no_grad()
def test_torchs_own_start_does_not():
    x = chain(torch.randn(400, 256), lambda: nn.Sequential(nn.Linear(256, 512), nn.GLU()))
    assert x.var(0).mean() < 1 / 1000


@torch.no_grad()
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_the_start_knows_how_many_inputs_a_pixel_has(kind, stride):
    """Before ReLU, the variance at an inner pixel is the gain's square, 2."""
    layer = activation_layer(kind, 64, 256, "relu", kernel_size=4, stride=stride, padding=1)[0]
    y = layer(torch.randn(10, 64, 12, 12))[..., 2:-2, 2:-2]
    assert abs(y.var().item() / 2 - 1) < 0.05


def test_gated_layers_start_as_they_always_did():
    """He's start from the same random numbers, under the same names: checkpoints and seeds keep their meaning."""
    torch.manual_seed(3)
    state = MLP((1, 4, 4), (5, 6)).state_dict()
    torch.manual_seed(3)
    for index, (inputs, outputs) in enumerate([(16, 10), (5, 12)]):
        linear = nn.Linear(inputs, outputs)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        assert torch.equal(state.pop(f"layers.{index}.0.weight"), linear.weight)
        assert not state.pop(f"layers.{index}.0.bias").any()
    assert not state
    assert set(BernoulliHead(6, (1, 4, 4)).state_dict()) == {"linear.weight", "linear.bias"}


# Convolutional nets


@every_size
@every_net
def test_any_size_and_any_dimensions_on_the_left(name, shape):
    net, inputs = NETS[name](shape, "gated")
    for left in [(), (0,), (2,), (3, 1, 2)]:
        assert net(torch.rand(*left, *inputs)).shape == (*left, *output(net))


@every_activation
@every_net
def test_particles_and_images_do_not_mix(name, activation):
    torch.set_default_dtype(torch.float64)
    net, inputs = NETS[name]((3, 5, 7), activation)
    x = torch.randn(4, 3, *inputs)
    y = net(x)
    assert gap(y.flatten(0, 1), net(x.flatten(0, 1))) < 1e-12
    for s, b in [(0, 0), (1, 2), (3, 1)]:
        assert gap(y[s, b], net(x[s, b])) < 1e-12
    assert gap(y.transpose(0, 1), net(x.transpose(0, 1))) < 1e-12


@every_activation
@every_net
def test_gradient_reaches_every_parameter_and_input(name, activation):
    net, inputs = NETS[name]((3, 9, 6), activation)
    x = torch.randn(5, *inputs, requires_grad=True)
    y = net(x)
    (y * torch.randn_like(y)).sum().backward()
    for parameter in [x, *net.parameters()]:
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0


@pytest.mark.parametrize(("shape", "features"), [((1, 28, 28), 294), ((1, 28, 20), 210), ((3, 32, 32), 384)])
def test_the_papers_encoder_has_the_papers_features(shape, features):
    """MNIST, Frey faces and CIFAR: the sizes that its authors' code spells out."""
    net = ConvEncoder(shape)
    assert net.features == features
    assert [tuple(layer[0].weight.shape[1:]) for layer in net.layers] == [
        (shape[0], 7, 7), (32, 3, 3), (32, 5, 5), (64, 3, 3), (64, 3, 3)
    ]  # fmt: skip


def test_decoders_are_the_plain_torch_calls():
    torch.set_default_dtype(torch.float64)
    h, shape = torch.randn(4, 6), (3, 5, 7)
    net = ConvDecoder(6, shape, "relu")
    y = F.relu(net.image[0](h)).reshape(4, *shape)
    for layer in net.layers:
        y = F.relu(F.conv2d(y, layer[0].weight, layer[0].bias, padding=1))
    assert gap(net(h), y) < 1e-12
    net = SmallConvDecoder(6, shape, "relu")
    y = F.relu(net.dense[0](h)).reshape(4, 64, 2, 2)
    for layer, (height, width) in zip(net.layers, [(3, 4), (5, 7)]):
        y = F.relu(F.conv_transpose2d(y, layer[0].weight, layer[0].bias, stride=2, padding=1))[..., :height, :width]
    assert gap(net(h), y) < 1e-12


@every_net
def test_nets_say_what_they_are_in_one_line(name):
    net, inputs = NETS[name]((3, 5, 7), "leaky-relu")
    text = repr(net)
    assert text.startswith(f"{type(net).__name__}({'×'.join(map(str, inputs))} → ") and "\n" not in text
    assert text.endswith(f"{'×'.join(map(str, output(net)))}, leaky-relu)")


# The last layer


@pytest.mark.parametrize("count", [1, 2])
def test_to_image_is_a_linear_map_of_a_vector_and_a_convolution_of_a_map(count):
    torch.set_default_dtype(torch.float64)
    shape = (3, 5, 7)
    last, h = ToImage(8, shape, count), torch.randn(4, 2, 8)
    assert gap(torch.stack(last(h), 2).flatten(2), F.linear(h, last.weight, last.bias)) < 1e-13
    last, h = ToImage((8, 5, 7), shape, count), torch.randn(4, 2, 8, 5, 7)
    truth = F.conv2d(h.flatten(0, 1), last.weight[..., None, None], last.bias).reshape(4, 2, count, *shape)
    assert len(last(h)) == count
    assert gap(torch.stack(last(h), 2), truth) < 1e-13
    assert all(image.shape == shape for image in last(h[0, 0]))


def test_to_image_refuses_a_map_of_another_size():
    with pytest.raises(ValueError, match=r"\(8, 5, 6\) cannot become an image \(3, 5, 7\)"):
        ToImage((8, 5, 6), (3, 5, 7))


def test_to_image_has_a_weight_a_pixel_or_a_weight_a_channel():
    assert sum(p.numel() for p in ToImage(8, (3, 5, 7), 2).parameters()) == 9 * 2 * math.prod((3, 5, 7))
    assert sum(p.numel() for p in ToImage((8, 5, 7), (3, 5, 7), 2).parameters()) == 9 * 2 * 3


@pytest.mark.parametrize("shape", [(5, 784), (5, 1, 14, 56), (784,)])
def test_an_mlp_refuses_images_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"images are of shape .*, expected \(N, 1, 28, 28\)"):
        MLP((1, 28, 28), (8,))(torch.zeros(shape))
