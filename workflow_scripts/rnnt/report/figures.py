"""The figures of the report: drawn once, for the page as SVG that follows its colours, and as files beside it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from rnnt import files

# The page's colours by name: on white, on black. Drawn in the first, which the page's SVG then swaps for the name.
COLORS = {
    "ink": ("#1b1f24", "#e6edf3"),
    "soft": ("#565f69", "#9da7b3"),
    "rule": ("#d1d7de", "#3a424c"),
    "series-1": ("#0b62b1", "#6cb2f5"),
    "series-2": ("#b34a00", "#f2995c"),
    "series-3": ("#12774f", "#5fc99a"),
    "series-4": ("#8a3ba1", "#d69be6"),
    "series-5": ("#a81f37", "#f58a9b"),
    "series-6": ("#6b5d00", "#d4c35a"),
}
INK, SOFT, RULE, *SERIES = (light for light, _ in COLORS.values())
MARKERS = "osD^vPX"  # with six colours: 42 splits that differ, and no two neighbours by colour alone
WIDTH = 5.0  # inches, 360 points: about a phone's width, so that 10 points stay 10 pixels there
POINTS = 400  # of a curve: as many as its width shows
FULL = 100.0  # percent; a WER beyond is drawn at the edge, with its value
STYLE = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a `$` in a name is a `$`
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write `name`.svg and `name`.png into `folder`; returns the SVG to put into a page."""
    folder.mkdir(parents=True, exist_ok=True)
    # Without the date and with names that depend on the figure's alone, the same results make the same file.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        # Laid out once: with a legend outside the axes each saving would squeeze them further.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        text = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", facecolor="white", metadata=nothing)
        files.write_text(folder / f"{name}.svg", text.getvalue())
        with files.whole(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", facecolor="white", dpi=200)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    return inline(text.getvalue(), name)


def inline(svg: str, name: str) -> str:
    """An SVG file as an element of a page: its names prefixed by `name`, its colours the page's, its size free."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    head, body = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)[0]
    for color, (light, _) in COLORS.items():
        body = body.replace(light, f"var(--{color})")
    return f'<svg {box} aria-hidden="true" focusable="false">{body}'


def wer(rows: list[dict]) -> Figure:
    """Dot and whisker: each split's WER with beam search and its interval, greedily, and before fine-tuning.

    `rows` have `label`, `beam`, `low`, `high`, `greedy`, `zero_shot`, in percent, None where not known, and `by_seed`,
    the WER of each seed where there are several.
    """
    values = ("beam", "low", "high", "greedy", "zero_shot")
    edge = _edge(row[key] for row in rows for key in values)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.52 * len(rows)))
        axes = figure.subplots()
        for y, row in enumerate(rows):
            if row["low"] is not None:
                axes.plot([min(row["low"], edge), min(row["high"], edge)], [y, y], color=SERIES[0], linewidth=2)
            _dot(axes, row["zero_shot"], y, edge, marker="D", color=SERIES[1], filled=False)
            _dot(axes, row["greedy"], y, edge, marker="s", color=SOFT, filled=False)
            for one in row["by_seed"]:
                _dot(axes, one, y, edge, marker="|", color=SERIES[2])
            _dot(axes, row["beam"], y, edge, marker="o", color=SERIES[0])
            axes.text(0, y - 0.28, f"{row['label']}:  {row['beam']:.2f} %", va="bottom", fontsize=9)
        keys = [
            _key("o", SERIES[0], True, "beam search, 95 % interval" if _any(rows, "low") else "beam search"),
            _key("s", SOFT, False, "greedy"),
        ]
        if any(row["by_seed"] for row in rows):
            keys.append(_key("|", SERIES[2], False, "each seed"))
        if _any(rows, "zero_shot"):
            keys.append(_key("D", SERIES[1], False, "before fine-tuning"))
        axes.set(xlim=(0, edge * 1.04), ylim=(len(rows) - 0.5, -0.85), yticks=[], xlabel="WER in percent")
        axes.spines["left"].set_visible(False)
        figure.legend(handles=keys, loc="outside upper left", ncols=3, fontsize=9, handletextpad=0.2, columnspacing=1)
    return figure


def differences(rows: list[dict]) -> Figure:
    """Each difference of two systems, in points of percent, with its interval: left of zero the second is better.

    `rows` have `label`, `difference`, `low` and `high`, the ends None where there is no interval.
    """
    reach = max([0.1, *(abs(v) for row in rows for v in (row["difference"], row["low"], row["high"]) if v is not None)])
    edge = min(FULL, reach)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.52 * len(rows)))
        axes = figure.subplots()
        for y, row in enumerate(rows):
            axes.plot([0, 0], [y - 0.22, y + 0.22], color=INK, linewidth=1)
            worse = row["difference"] > 0
            color = SERIES[1] if worse else SERIES[0]
            if row["low"] is not None:
                axes.plot([max(row["low"], -edge), min(row["high"], edge)], [y, y], color=color, linewidth=2)
            clear = row["low"] is not None and (row["low"] > 0 or row["high"] < 0)
            _points(axes, max(min(row["difference"], edge), -edge), y, "o", color, clear)
            axes.text(-edge * 1.04, y - 0.28, f"{row['label']}:  {row['difference']:+.2f}", va="bottom", fontsize=9)
        axes.set(xlim=(-edge * 1.04, edge * 1.04), ylim=(len(rows) - 0.5, -0.85), yticks=[])
        axes.set_xlabel("better   ←   difference of WER in points   →   worse")
        axes.spines["left"].set_visible(False)
    return figure


def ablation(rows: list[dict[str, str]]) -> Figure:
    """The `differences` of ablation.csv, whose rows these are: right of zero a recipe is worse without the part."""
    values = ("difference", "low", "high")
    return differences(
        [
            {
                "label": f"without {row['name']}: {row['split']}, {row['search']}",
                **{key: float(row[key]) if row[key] else None for key in values},
            }
            for row in rows
        ]
    )


def speed(rows: list[dict]) -> Figure:
    """WER against seconds of audio per second of decoding: a line from greedy (hollow) to beam search (filled).

    `rows` have `label`, `greedy`, `beam`, `rtfx_greedy` and `rtfx_beam`.
    """
    edge = _edge(row[key] for row in rows for key in ("greedy", "beam"))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.2 + 0.2 * ((len(rows) + 1) // 2)))
        axes = figure.subplots()
        keys = []
        for number, row in enumerate(rows):
            color, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
            x, y = (row["rtfx_greedy"], row["rtfx_beam"]), [min(row[key], edge) for key in ("greedy", "beam")]
            axes.plot(x, y, color=color, linewidth=1)
            _points(axes, x[0], y[0], marker, color, False)
            _points(axes, x[1], y[1], marker, color, True)
            keys.append(_key(marker, color, True, row["label"]))
        axes.set(xlabel="RTFx (logarithmic)", ylabel="WER in percent", ylim=(0, edge * 1.05))
        _logarithmic(axes, [row[key] for row in rows for key in ("rtfx_greedy", "rtfx_beam")])
        figure.legend(handles=keys, loc="outside lower left", ncols=2, fontsize=9, handletextpad=0.2)
    return figure


def training(loss: list[tuple[int, float]], skipped: list[int], interim: dict[str, list[tuple[int, float]]]) -> Figure:
    """Loss against steps, skipped steps marked, and below it the interim WER of each validation split."""
    panels = bool(loss) + bool(interim)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.5 + 1.9 * panels))
        axes = list(figure.subplots(panels, squeeze=False, sharex=True)[:, 0])
        axes[-1].set_xlabel("steps")
        axes[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True))
        if loss:
            _draw_loss(axes[0], thinned(loss), skipped)
        if interim:
            edge = _edge(value for points in interim.values() for _, value in points)
            for number, (split, points) in enumerate(interim.items()):
                style = {"color": SERIES[(number + 1) % len(SERIES)], "marker": MARKERS[(number + 1) % len(MARKERS)]}
                steps, values = zip(*points, strict=True)
                axes[-1].plot(steps, [min(value, edge) for value in values], label=split, **style)
            axes[-1].set(ylabel="WER in percent", ylim=(0, edge * 1.05))
            axes[-1].legend(fontsize=9)
    return figure


def _draw_loss(axes: Axes, loss: list[tuple[int, float]], skipped: list[int]) -> None:
    steps, values = zip(*loss, strict=True)
    axes.plot(steps, values, color=SERIES[0], marker="o" if len(loss) < 15 else None, markersize=3, linewidth=1.2)
    axes.set_ylabel("training loss")
    if min(values) > 0 and max(values) > 10 * min(values):
        axes.set_yscale("log")
        axes.set_ylabel("loss (logarithmic)")
        _plain(axes.yaxis)
    if skipped:
        axes.plot(
            skipped, [0.03] * len(skipped), "x", color=SERIES[4], label="skipped", transform=axes.get_xaxis_transform()
        )
        axes.legend(fontsize=9)


def thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most POINTS points: neighbours become their mean."""
    size = -(-len(points) // POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)] if points else []
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _edge(values: Iterable[float | None]) -> float:
    """Where an axis of WERs ends: a few runaways must not squeeze all others against zero."""
    return min(FULL, max([1.0, *(value for value in values if value is not None)]))


def _any(rows: list[dict], key: str) -> bool:
    return any(row[key] is not None for row in rows)


def _dot(axes: Axes, x: float | None, y: float, edge: float, marker: str, color: str, filled: bool = True) -> None:
    if x is not None:
        _points(axes, min(x, edge), y, ">" if x > edge else marker, color, filled)


def _points(axes: Axes, x: float, y: float, marker: str, color: str, filled: bool) -> None:
    face = color if filled else "none"
    axes.plot(x, y, marker, color=color, markerfacecolor=face, markersize=6, clip_on=False)


def _key(marker: str, color: str, filled: bool, label: str) -> Line2D:
    """An entry of the legend."""
    face = color if filled else "none"
    return Line2D([], [], marker=marker, color=color, markerfacecolor=face, linestyle="none", label=label)


def _logarithmic(axes: Axes, values: list[float]) -> None:
    if min(values) > 0:
        axes.set_xscale("log")
        low, high = min(values), max(values)
        # At least a factor of four, or two close values spread over the whole axis look far apart.
        room = max(1.15, (4 * low / high) ** 0.5)
        axes.set_xlim(low / room, high * room)
        _plain(axes.xaxis)


def _plain(axis) -> None:
    """Ticks such as 20 and 50 in place of powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
