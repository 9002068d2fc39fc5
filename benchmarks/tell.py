"""Results as a Markdown table and two plots."""

from pathlib import Path
from typing import Any

UNITS = {
    "wall": "s",
    "cpu": "s processor time",
    "peak": "MiB",
    "sum": "s",
    "start": "s",
    "memory": "MiB",
    "rate": "1/s",
}
TITLES = {
    "train": "train, MNIST, dense, 5 epochs",
    "evaluate": "evaluate, with report",
    "steps": "all steps of a run, summed",
    "server": "model server",
    "download": "download of 1 GB, .tar.gz",
    "export": "export of 2,000 small files",
    "export-large": "export of 1 GB, one file",
}


def write(results: dict[str, Any], folder: Path) -> None:
    """Write results.md and growth.svg beside results.json."""
    lines = [f"Measured on {results['machine']}; medians, in brackets least to most.", ""]
    lines += ["| what | | ours | the plain way | ratio |", "| --- | --- | --- | --- | --- |"]
    for row, title in TITLES.items():
        measured = results["rows"].get(row)
        if not measured:
            continue
        for number, ours in measured["ours"].items():
            plain = measured.get("plain", {}).get(number)
            if number not in UNITS or (number == "cpu" and row != "train"):
                continue
            ratio = f"{ours['median'] / plain['median']:.2f}" if plain else ""
            lines.append(f"| {title} | {UNITS[number]} | {_told(ours)} | {_told(plain) if plain else ''} | {ratio} |")
    around = results["rows"].get("steps", {}).get("ours", {}).get("around")
    if around:
        lines.append(f"| around the steps of a run | s | {_told(around)} | | |")
    (folder / "results.md").write_text("\n".join(lines) + "\n")
    if "growth" in results["rows"]:
        _plot(results["rows"]["growth"], folder / "growth.svg")


def _told(spread: dict[str, Any]) -> str:
    digits = 0 if spread["median"] >= 100 else 2
    return f"{spread['median']:,.{digits}f} ({spread['least']:,.{digits}f} to {spread['most']:,.{digits}f})"


def _plot(growth: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    time, memory, request = figure.subplots(1, 3)
    counts = [int(count) for count in growth["train"]]
    time.plot(counts, [cost["wall"] for cost in growth["train"].values()], "o-")
    time.set(title="train, one epoch", xlabel="images", ylabel="s, whole process")
    memory.plot(counts, [cost["peak"] for cost in growth["train"].values()], "o-")
    memory.set(title="train, peak memory", xlabel="images", ylabel="MiB")
    sizes = [int(count) for count in growth["request"]]
    request.plot(sizes, [1000 * cost["seconds"] for cost in growth["request"].values()], "o-")
    request.set(title="one answer, dense", xlabel="images per call", ylabel="ms", yscale="log")
    for axes in (time, memory, request):
        axes.set(xscale="log")
        axes.grid(alpha=0.3)
    figure.savefig(path)
