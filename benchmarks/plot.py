"""Small plots with logarithmic axes, as SVG."""

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 300, 220
LEFT, RIGHT, TOP, BOTTOM = 50, 280, 34, 172
COLOURS = ("#2563eb", "#c2410c", "#15803d")
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#444}.title{font-size:13px;font-weight:600;fill:#111}"
    ".grid{stroke:#ddd;fill:none}.line{fill:none;stroke-width:2}"
)


@dataclass(frozen=True)
class Panel:
    """A plot: title, what is on the axes (`y` is a unit), and lines of points (x, y), all above zero."""

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]


def plot(panels: list[Panel], columns: int = 3) -> str:
    """Panels in rows, as one SVG file."""
    rows = -(-len(panels) // columns)
    width, height = columns * WIDTH, rows * HEIGHT
    drawn = "".join(
        f'<g transform="translate({index % columns * WIDTH} {index // columns * HEIGHT})">{_panel(panel)}</g>\n'
        for index, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<style>{STYLE}</style><rect width="{width}" height="{height}" fill="#fff"/>\n{drawn}</svg>\n'
    )


def _panel(panel: Panel) -> str:
    xs = [x for line in panel.lines.values() for x, _ in line]
    ys = [y for line in panel.lines.values() for _, y in line]
    up = _marks(min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + _share(x, min(xs), max(xs)) * (RIGHT - LEFT),
            BOTTOM - _share(y, up[0], up[-1]) * (BOTTOM - TOP),
        )

    parts = [f'<text class="title" x="{LEFT}" y="16">{escape(panel.title)}, {escape(panel.y)}</text>']
    for mark in up:
        _, y = place(xs[0], mark)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{mark:,g}</text>')
    for x in sorted(set(xs)):
        across, _ = place(x, up[0])
        parts.append(f'<path class="grid" d="M{across:.1f} {TOP}V{BOTTOM}"/>')
        parts.append(f'<text x="{across:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{_short(x)}</text>')
    parts.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 34}" text-anchor="middle">{escape(panel.x)}</text>')
    for (name, line), colour in zip(panel.lines.items(), COLOURS, strict=False):
        points = [place(x, y) for x, y in line]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<path class="line" stroke="{colour}" d="M{path}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        if len(panel.lines) > 1:
            x, y = points[-1]
            parts.append(
                f'<text x="{x - 6:.1f}" y="{y - 7:.1f}" text-anchor="end" style="fill:{colour}">{escape(name)}</text>'
            )
    return "".join(parts)


def _marks(low: float, high: float) -> list[float]:
    """Round numbers from the last one below low to the first one above high."""
    decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 2)
    marks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    first = max(index for index, mark in enumerate(marks) if mark <= low)
    last = min(index for index, mark in enumerate(marks) if mark > high)
    return marks[first : last + 1]


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2g} M"
    return f"{value / 1e3:.3g} k" if value >= 5e3 else f"{value:g}"


def _share(value: float, low: float, high: float) -> float:
    """How far a value lies between two others, 0 to 1, on a logarithmic scale."""
    return math.log(value / low) / math.log(high / low)
