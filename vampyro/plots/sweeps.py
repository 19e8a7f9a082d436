"""Pictures of many runs: functions from numbers to a matplotlib Figure, as in `plots`."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from vampyro.plots.images import new_figure

LOGARITHMIC_FROM = 20  # an axis is logarithmic where its largest value is so many times the smallest
Bar = tuple[float, float | None]  # a value, and half the length of its error bar
Point = tuple[float, float, float | None]  # the same, after what varies


def error_curves(panels: Mapping[str, Mapping[str, Sequence[Point]]], x: str, note: str = "") -> Figure:
    """Plot metrics against what varies, with error bars; a panel each.

    Args:
        panels: {title of the metric: {name of a line: [(x, y, half the length of its bar, or None), …]}}.
        x: what varies; logarithmic where that spreads it better.
        note: what the bars are, in a line below.

    >>> error_curves({"log p̂": {"planar": [(0, -92.0, 0.1), (5, -91.5, 0.2)]}}, "length", "bars: sd over 3 seeds")
    <Figure size 420x320 with 1 Axes>
    """
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(4.2 * columns, 3.2 * rows)
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in all_axes[len(panels) :]:
        axes.set_axis_off()
    positions = sorted({point[0] for lines in panels.values() for points in lines.values() for point in points})
    logarithmic = positions[0] > 0 and positions[-1] >= LOGARITHMIC_FROM * positions[0]
    for axes, (title, lines) in zip(all_axes, panels.items()):
        for name, points in lines.items():
            xs, ys, bars = zip(*sorted(points, key=lambda point: point[0]))
            axes.errorbar(xs, ys, None if None in bars else bars, fmt="o-", capsize=3, ms=4, label=name)
        if logarithmic:
            axes.set_xscale("log")
        if len(positions) <= 10:
            rotation = 0 if len(positions) <= 6 else 45
            axes.set_xticks(positions, [f"{position:g}" for position in positions], fontsize=8, rotation=rotation)
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=x, ylabel=title)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize=8)
    if note:
        figure.supxlabel(note, fontsize=8)
    return figure


def error_bars(panels: Mapping[str, Mapping[str, Mapping[str, Bar]]], y: str = "", note: str = "") -> Figure:
    """Plot metrics of things that have no order, with error bars: a colour for each series, a panel for each metric.

    Bars that lie, so that names fit; and points instead, each with its number, where bars from zero would be all alike.

    Args:
        panels: {title of the metric: {name of a series: {name of a group: (length, half an error bar's or None)}}}.
        y: what the groups are.
        note: what the error bars are, in a line below.

    >>> error_bars({"log p̂": {"ours": {"MLP": (-92.0, 0.1)}, "theirs": {"MLP": (-104.2, None), "conv": (-76, None)}}})
    <Figure size 620x204 with 1 Axes>
    """
    groups = list(dict.fromkeys(chain.from_iterable(chain.from_iterable(p.values()) for p in panels.values())))
    names = list(dict.fromkeys(chain.from_iterable(panels.values())))
    most = max(map(len, panels.values()))
    figure = new_figure(1 + 5.2 * len(panels), 1.2 + len(groups) * (0.12 + 0.15 * most))
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False).ravel()
    for axes, (title, series) in zip(all_axes, panels.items()):
        values = [(value, bar or 0) for bars in series.values() for value, bar in bars.values()]
        low, high = min(value - bar for value, bar in values), max(value + bar for value, bar in values)
        far_from_zero = low < 0 or low > 0.5 * high
        start = low - 0.15 * (high - low or abs(low)) if far_from_zero else 0.0
        height = 0.8 / len(series)
        for number, (name, bars) in enumerate(series.items()):
            at = [groups.index(group) + (number - (len(series) - 1) / 2) * height for group in bars]
            _plot_series(axes, at, bars, height, far_from_zero, label=name, color=f"C{names.index(name)}")
        axes.set_xlim(start, high + 0.2 * (high - start))  # the rest is for the numbers
        axes.set_yticks(range(len(groups)), groups, fontsize=8)
        axes.set_xlabel(title)
        axes.grid(axis="x", alpha=0.3)
        if len(series) > 1:
            axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    all_axes[0].set_ylabel(y)
    all_axes[0].set_ylim(len(groups) - 0.5, -0.5)  # the first on top, in all panels
    if note:
        figure.supxlabel(note, fontsize=8)
    return figure


def _plot_series(axes: Axes, at: list[float], bars: Mapping[str, Bar], height: float, dots: bool, **style: Any) -> None:
    """Bars from zero, or points, and behind the error bar of each its number."""
    values, errors = zip(*((value, bar or 0) for value, bar in bars.values()))
    style |= {"xerr": errors if any(errors) else None, "capsize": 2}
    if dots:
        axes.errorbar(values, at, fmt="o", markersize=4, **style)
    else:
        axes.barh(at, values, height, **style)
    for value, error, place in zip(values, errors, at):
        end = (value + error, place)
        axes.annotate(f"{value:.2f}", end, xytext=(5, 0), textcoords="offset points", va="center", fontsize=7)
