"""Just enough SVG for the pictures of the documentation: boxes, lines and words on white paper."""

from __future__ import annotations

from html import escape
from typing import Literal

INK = "#1f2933"
GREY = "#7b8794"
PALE = "#e4e7eb"
BLUE = "#3b6fb6"
SKY = "#c9dcf2"
GREEN = "#d5ead8"
SAND = "#f6e7cb"
RED = "#c0392b"

Anchor = Literal["start", "middle", "end"]


class Canvas:
    """A drawing of `width` by `height` pixels; `title` is what is read out to those who do not see it."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="sans-serif" font-size="14" '
            f'fill="{INK}" role="img">',
            f"<title>{escape(title)}</title>",
            '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="{INK}"/></marker>',
        ]
        self.box(0, 0, width, height, fill="#ffffff", line="none")

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str,
        line: str = INK,
        dashed: bool = False,
    ) -> None:
        """Draw a rectangle from its upper left corner."""
        dashes = ' stroke-dasharray="3 3"' if dashed else ""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" '
            f'fill="{fill}" stroke="{line}"{dashes}/>'
        )

    def words(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 14,
        anchor: Anchor = "start",
        fill: str = INK,
        bold: bool = False,
    ) -> None:
        """Write `text` with its base line at `y`."""
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" '
            f'fill="{fill}"{weight}>{escape(text)}</text>'
        )

    def path(
        self,
        points: list[tuple[float, float]],
        *,
        line: str = INK,
        fill: str = "none",
        dashed: bool = False,
        arrow: bool = False,
        width: float = 1.5,
    ) -> None:
        """Draw straight lines from point to point."""
        way = " ".join(f"{x:g},{y:g}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        tip = ' marker-end="url(#tip)"' if arrow else ""
        self._parts.append(
            f'<polyline points="{way}" fill="{fill}" stroke="{line}" stroke-width="{width:g}"'
            f"{dashes}{tip}/>"
        )

    def svg(self) -> str:
        """Return the drawing as the text of a file."""
        return "\n".join([*self._parts, "</svg>", ""])
