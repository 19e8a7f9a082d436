"""Pictures of latents show the numbers they were given."""

import matplotlib
import pytest
import torch
from matplotlib.colors import to_rgb

from vampyro import plots
from vampyro.plots import latents


def heights(figure):
    return [bar.get_height() for bar in sorted(figure.axes[0].patches, key=lambda bar: bar.get_x())]


def test_kl_is_sorted_and_inactive_dimensions_are_grey():
    kl = torch.tensor([0.1, 3.0, 1.2, 0.05])
    figure = plots.kl_bars(kl, active=torch.tensor([False, True, True, False]))
    assert heights(figure) == pytest.approx([3.0, 1.2, 0.1, 0.05])
    colors = [bar.get_facecolor()[:3] for bar in sorted(figure.axes[0].patches, key=lambda bar: bar.get_x())]
    assert colors == [to_rgb(latents.ACTIVE)] * 2 + [to_rgb(latents.INACTIVE)] * 2
    assert heights(plots.kl_bars(kl)) == pytest.approx([3.0, 1.2, 0.1, 0.05])


def test_components_are_sorted_and_their_number_counted():
    use = torch.tensor([0.0, 0.5, 0.5, 0.0])
    figure = plots.component_bars(use)
    assert heights(figure) == pytest.approx([0.5, 0.5, 0.0, 0.0])
    assert "2.0 of 4 effective" in figure.axes[0].get_title()
    assert any("2 dead" in text.get_text() for text in figure.axes[0].get_legend().get_texts())


def test_contours_of_the_plane_lie_where_the_density_is():
    """Of N(m, I) the region of density above level c holds 1 - exp(-r²/2): contours are circles round m."""
    mean, z = torch.tensor([1.0, -0.5]), 6 * torch.rand(2000, 2) - 3 + torch.tensor([1.0, -0.5])
    figure = plots.latent_plane(z, torch.arange(2000) % 10, lambda z: -(z - mean).square().sum(-1) / 2)
    (contours,) = [c for c in figure.axes[0].collections if isinstance(c, matplotlib.contour.QuadContourSet)]
    radii = [torch.tensor(path.vertices[::5]) - mean for path in contours.get_paths() if len(path.vertices)]
    radii = [r.norm(dim=-1) for r in radii]
    assert all(r.std() < 0.02 for r in radii)
    expected = [(-2 * torch.tensor(1 - p).log()).sqrt().item() for p in (0.9, 0.8, 0.6, 0.4, 0.2)]
    assert [r.mean().item() for r in radii][1:] == pytest.approx(expected, abs=0.05)


def test_a_plane_has_two_dimensions():
    with pytest.raises(ValueError, match=r"got shape \(5, 3\)"):
        plots.latent_plane(torch.zeros(5, 3))


def test_tsne_keeps_neighbours_and_shows_no_more_than_asked():
    codes = torch.randn(300, 8) + 30 * torch.eye(8)[torch.arange(300) % 3]
    figure = plots.tsne_map(codes, torch.arange(300) % 3, most=90)
    (dots,) = figure.axes[0].collections
    points, label = torch.tensor(dots.get_offsets()), torch.tensor(dots.get_array())
    assert len(points) == 90
    distances = torch.cdist(points, points).fill_diagonal_(float("inf"))
    assert (label[distances.argmin(-1)] == label).all()
    with pytest.raises(ValueError, match="at least three"):
        plots.tsne_map(codes[:2])


def test_rate_distortion_in_order_of_beta():
    figure = plots.rate_distortion_curve([(2.0, 18.0, 83.0), (0.5, 30.0, 70.0), (1.0, 24.0, 74.0)])
    curve = figure.axes[0].lines[0]
    assert curve.get_xydata().tolist() == [[70.0, 30.0], [74.0, 24.0], [83.0, 18.0]]
    assert [t.get_text() for t in figure.axes[0].texts] == ["β = 0.5", "β = 1", "β = 2"]
    assert "98.00" in figure.axes[0].get_legend().get_texts()[0].get_text()


def test_gaps_follow_one_another():
    figure = plots.gap_bars({"a": (1.0, 3.0), "b": (torch.tensor(2.0), torch.tensor(0.5))})
    bars = [(bar.get_x(), bar.get_width()) for bar in figure.axes[0].patches]
    assert bars == [(0, 1.0), (0, 2.0), (1.0, 3.0), (2.0, 0.5)]


def test_the_frame_of_the_plane_holds_the_prior_where_no_code_lies():
    codes = 0.3 * torch.randn(100, 2) + torch.tensor([3.0, 0.0])
    axes = plots.latent_plane(codes, log_prob=lambda z: -z.square().sum(-1) / 2).axes[0]
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert -6 < left < -3 and 3 < right < 6 and -6 < low < -3 and 3 < high < 6
