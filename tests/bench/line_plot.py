"""Line plots as SVG, for the figures of the README."""

import math

COLOURS = ("#1f5fa8", "#a8411f", "#2e8540", "#7b3fa0", "#b8860b", "#444444", "#008b8b", "#c2185b")
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 280, 60, 34, 130, 40


def panel(series, title, x_label, x_text=str, y_most=None, offset=0):
    """series: {name: [(x, y), ...]}; the x axis is logarithmic, the y axis starts at 0. Returns SVG elements."""
    xs = sorted({x for points in series.values() for x, _ in points})
    most = y_most or 1.15 * max(y for points in series.values() for _, y in points)
    span = math.log(xs[-1] / xs[0]) if len(xs) > 1 else 1
    at_x = lambda x: LEFT + math.log(x / xs[0]) / span * (WIDTH - LEFT - RIGHT)
    at_y = lambda y: offset + TOP + (HEIGHT - TOP - BOTTOM) * (1 - y / most)
    out = [f'<text x="{LEFT}" y="{offset + 18}" font-size="13">{title}</text>']
    for i in range(5):
        y = most * i / 4
        out.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}" stroke="#ddd"/>'
            f'<text x="{LEFT - 6}" y="{at_y(y) + 4:.1f}" font-size="10" text-anchor="end">{y:.3g}</text>'
        )
    for x in xs:
        out.append(
            f'<text x="{at_x(x):.1f}" y="{offset + HEIGHT - BOTTOM + 16}" font-size="10" text-anchor="middle">{x_text(x)}</text>'
        )
    out.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{offset + HEIGHT - 8}" font-size="11" text-anchor="middle">{x_label}</text>'
    )
    for i, (name, points) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        line = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3" fill="{colour}"/>' for x, y in points)
        out.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'
            f'<text x="{WIDTH - RIGHT + 10}" y="{offset + TOP + 12 + 18 * i}" font-size="11" fill="{colour}">{name}</text>'
        )
    return out


def write(path, panels):
    """panels: functions of the offset that give elements, one below the other."""
    body = "\n".join(element for i, make in enumerate(panels) for element in make(i * HEIGHT))
    with open(path, "w", encoding="utf-8") as f:
        f.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT * len(panels)}" font-family="sans-serif">'
            f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
        )
