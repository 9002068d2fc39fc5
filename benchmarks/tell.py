"""Results as Markdown tables and plots."""

from pathlib import Path
from typing import Any

from benchmarks.plot import Panel, plot

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
UNITS = {
    "wall": "s",
    "cpu": "s processor time",
    "peak": "MiB",
    "sum": "s",
    "start": "s",
    "memory": "MiB",
    "rate": "1/s",
    "p99": "ms, 99th percentile",
    "cost": "µs processor time a request",
}
TITLES = {
    "train": "train, MNIST, dense, 5 epochs",
    "evaluate": "evaluate, with report",
    "photos-dense": "train, 2,000 photos at 96 x 96, dense, 3 epochs",
    "photos-small": "train, 2,000 photos at 64 x 64, cnn, 3 epochs",
    "photos-large": "train, 2,000 photos at 224 x 224, cnn, 3 epochs",
    "photos-evaluate": "evaluate, 2,000 photos at 96 x 96, with report",
    "steps": "all steps of a run, summed",
    "server": "model server",
    "download": "download of 1 GB, .tar.gz",
    "download-objects": "download of 5,000 small objects",
    "export": "export of 2,000 small files",
    "export-away": "export of 500 small files, answers 10 ms later",
    "export-other": "export of 2,000 small files",
    "export-large": "export of 1 GB, one file",
}
GROWTH = {
    "images": {"images": "images to train on", "train": "train, s", "train memory": "train, MiB"},
    "parameters": {
        "parameters": "parameters",
        "train": "train, s",
        "train memory": "train, MiB",
        "size": "model folder, MB",
        "export": "export, s",
        "start": "server start, s",
        "server memory": "server, MiB",
        "answer": "answer to one image, ms",
    },
    "request": {
        "images a request": "images a request",
        "answer": "answer, ms",
        "rate": "images a second",
        "server memory": "server, MiB",
    },
}
"""Tables of growth: name of a number to its heading."""


def write(results: dict[str, Any], folder: Path) -> None:
    """Write results.md and growth.svg beside results.json, and the tables into docs/performance.md."""
    rows = results["rows"]
    tables = {"steps": [f"Measured on {results['machine']}; medians, in brackets least to most.", ""]}
    tables["steps"] += _side_by_side(rows)
    if "growth" in rows:
        tables["growth"] = [
            line for name, headings in GROWTH.items() for line in (*_growth(rows["growth"][name], headings), "")
        ][:-1]
        (folder / "growth.svg").write_text(plot(_panels(rows["growth"])))
    if "gpu" in rows:
        tables["gpu"] = _gpu(rows["gpu"])
    (folder / "results.md").write_text("\n\n".join("\n".join(table) for table in tables.values()) + "\n")
    for name, table in tables.items():
        _fill(PAGE, name, table)


def _fill(page: Path, name: str, lines: list[str]) -> None:
    """Put lines into a page, between its comments `name` and `end of name`."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, rest = page.read_text().split(begin)
    page.write_text("\n".join([f"{before}{begin}", "", *lines, "", f"{end}{rest.split(end)[1]}"]))


def _side_by_side(rows: dict[str, Any]) -> list[str]:
    lines = ["| what | | ours | baseline | ratio |", "| --- | --- | --- | --- | --- |"]
    for row, title in TITLES.items():
        measured = rows.get(row)
        if not measured:
            continue
        where = f", {'to' if row.startswith('export') else 'from'} {measured['store']}" if "store" in measured else ""
        for number, ours in measured["ours"].items():
            plain = measured.get("plain", {}).get(number)
            if number not in UNITS or (number == "cpu" and row != "train" and not row.startswith("photos")):
                continue
            ratio = f"{ours['median'] / plain['median']:.2f}" if plain else ""
            told = _told(plain) if plain else ""
            lines.append(f"| {title}{where} | {UNITS[number]} | {_told(ours)} | {told} | {ratio} |")
    around = rows.get("steps", {}).get("ours", {}).get("around")
    if around:
        lines.append(f"| around the steps of a run | s | {_told(around)} | | |")
    return lines


def _growth(measured: list[dict[str, float]], headings: dict[str, str]) -> list[str]:
    lines = [f"| {' | '.join(headings.values())} |", f"| {' | '.join('---' for _ in headings)} |"]
    return lines + [f"| {' | '.join(_number(row[name]) for name in headings)} |" for row in measured]


def _gpu(rows: dict[str, Any]) -> list[str]:
    lines = ["| train, MNIST, images a second | GPU | processor |", "| --- | --- | --- |"]
    return lines + [
        f"| {name} | {_told(row['gpu']['rate'])} | {_told(row['processor']['rate'])} |" for name, row in rows.items()
    ]


def _panels(growth: dict[str, Any]) -> list[Panel]:
    def panel(title: str, unit: str, table: str, **lines: str) -> Panel:
        x, heading = next(iter(GROWTH[table].items()))
        rows = growth[table]
        return Panel(title, heading, unit, {key: [(row[x], row[of]) for row in rows] for key, of in lines.items()})

    return [
        panel("Training, one epoch", "s", "images", train="train"),
        panel("Steps, by the network", "s", "parameters", train="train", export="export", server="start"),
        panel("One answer", "ms", "request", server="answer"),
        panel("Memory of training", "MiB", "images", train="train memory"),
        panel("Memory, by the network", "MiB", "parameters", train="train memory", server="server memory"),
        panel("Throughput", "images a second", "request", server="rate"),
    ]


def _told(spread: dict[str, Any]) -> str:
    digits = 0 if spread["median"] >= 100 else 2
    return f"{spread['median']:,.{digits}f} ({spread['least']:,.{digits}f} to {spread['most']:,.{digits}f})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"
