"""Pictures beside the pages, in one style."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.harness.pages import picture
from benchmarks.harness.rounds import Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS = "#1f6feb"
PEERS = "#b6bdc7"
INK = "#24292f"
FAINT = "#8b949e"
LIMIT = "#cf222e"
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#d0d7de",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "figure.facecolor": "white",
    "savefig.dpi": 144,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of one quantity: medians, with lines over the middle half of the rounds."""

    title: str
    measured: Sequence[Measured]
    digits: int = 0
    more_is_better: bool = False
    yardstick: str = ""
    """Whose multiples are written beside the figures."""


def bars(name: str, panels: Sequence[Panel]) -> None:
    """Write docs/benchmarks/`name`.png: one panel under the other, ours in colour."""
    heights = [len(panel.measured) + 1.6 for panel in panels]
    with drawing(name, heights, height=0.27 * sum(heights)) as (figure, axes):
        for panel, ax in zip(panels, axes, strict=True):
            _draw(panel, ax)
        figure.align_ylabels()


@contextmanager
def drawing(
    name: str, heights: Sequence[float], *, height: float
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Give a figure with its axes in a column; saves it when the block ends."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(
            len(heights),
            figsize=(8, height),
            squeeze=False,
            layout="constrained",
            gridspec_kw={"height_ratios": heights},
        )
        yield figure, list(axes[:, 0])
        # Without the software's version, so that the same figures give the same file.
        figure.savefig(picture(name), metadata={"Software": None})
        plt.close(figure)


def _draw(panel: Panel, ax: Axes) -> None:
    shown = sorted(panel.measured, key=lambda one: one.median, reverse=panel.more_is_better)
    base = next((one for one in shown if one.name == panel.yardstick), None)
    right = max(one.quartiles[1] for one in shown)
    for place, one in enumerate(shown):
        low, high = one.quartiles
        ax.barh(place, one.median, height=0.72, color=OURS if one.is_ours else PEERS)
        ax.plot([low, high], [place, place], color=INK, linewidth=1.1, solid_capstyle="butt")
        words = f"{one.median:,.{panel.digits}f}"
        if base is not None and one is not base:
            words += f"   × {one.over(base).median:.2f}"
        weight = "bold" if one.is_ours else "normal"
        at = max(one.median, high) + right * 0.01
        ax.text(at, place, words, va="center", fontweight=weight, fontsize=8.5)
    ax.set_yticks(range(len(shown)), [one.name for one in shown])
    for label, one in zip(ax.get_yticklabels(), shown, strict=True):
        label.set_fontweight("bold" if one.is_ours else "normal")
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set_xlim(0, right * 1.18)
    ax.set_xticks([])
    ax.spines["bottom"].set_visible(False)
    direction = "more" if panel.more_is_better else "less"
    ax.set_title(panel.title)
    ax.set_title(
        f"{direction} is better", loc="right", fontsize=8, fontweight="normal", color=FAINT
    )
