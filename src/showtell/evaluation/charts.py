"""Line charts as SVG, for reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, MARGIN = 420, 320, 56
INK, FAINT, LINE = "#1f2328", "#d0d7de", "#0969da"


@dataclass(frozen=True)
class Chart:
    """A chart of one line; both axes go from 0 to 1 and are labelled in percent.

    Attributes:
        title: what it says.
        across: label of the horizontal axis.
        up: label of the vertical axis.
        points: of the line.
        dots: whether the points are marked.
        guide: two points of a dashed line to compare with.
        remark: what the dashed line is.
    """

    title: str
    across: str
    up: str
    points: Sequence[tuple[float, float]]
    dots: bool
    guide: tuple[tuple[float, float], tuple[float, float]]
    remark: str


def side_by_side(charts: Sequence[Chart]) -> str:
    """Return the charts as one SVG picture, from left to right."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(charts)} {HEIGHT}" '
        f'font-family="sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{WIDTH * len(charts)}" height="{HEIGHT}" fill="white"/>',
    ]
    for number, chart in enumerate(charts):
        parts += [f'<g transform="translate({WIDTH * number} 0)">', *_drawn(chart), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _drawn(chart: Chart) -> list[str]:
    inner = WIDTH - 1.5 * MARGIN, HEIGHT - 2 * MARGIN

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return round(MARGIN + point[0] * inner[0], 1), round(HEIGHT - MARGIN - point[1] * inner[1], 1)

    def line(points: Sequence[tuple[float, float]], style: str) -> str:
        path = " ".join(f"{x},{y}" for x, y in map(place, points))
        return f'<polyline points="{path}" fill="none" {style}/>'

    parts = [f'<text x="{MARGIN}" y="28" font-size="15" font-weight="bold">{escape(chart.title)}</text>']
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        (left, y), (x, bottom) = place((0, tick)), place((tick, 0))
        parts += [
            line([(0, tick), (1, tick)], f'stroke="{FAINT}"'),
            f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{tick:.0%}</text>',
            f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{tick:.0%}</text>',
        ]
    x, y = place(chart.guide[1])
    parts += [
        line(chart.guide, f'stroke="{INK}" stroke-dasharray="4 4"'),
        f'<text x="{x}" y="{y - 7}" text-anchor="end" font-size="12">{escape(chart.remark)}</text>',
        line(chart.points, f'stroke="{LINE}" stroke-width="2.5"'),
        f'<text x="{MARGIN + inner[0] / 2}" y="{HEIGHT - 14}" text-anchor="middle">{escape(chart.across)}</text>',
        f'<text transform="translate(14 {MARGIN + inner[1] / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(chart.up)}</text>",
    ]
    if chart.dots:
        parts += [f'<circle cx="{x}" cy="{y}" r="4" fill="{LINE}"/>' for x, y in map(place, chart.points)]
    return parts
