"""The report: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..common.progress import counted
from .baseline import Baseline
from .charts import calibration_chart, epoch_chart, heat_map, precision_recall_chart, roc_chart
from .gate import Rule, Verdict, sentence, word
from .metrics import Metrics, PrecisionRecall, Roc
from .scoring import Scored
from .slices import FEW, Slice

STYLE = Path(__file__).with_name("report.css")
NO_NETWORK = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content security policy: even a hostile class name could load nothing and run nothing."""
MATRIX_CLASSES = 24
"""Most classes whose confusion matrix is a table with numbers; a larger one is a picture without."""
LONG_TABLE = 30
"""Rows from which a table scrolls inside the page."""
PICTURE = 80
"""Longest side of a picture in pixels; larger images are scaled down."""
COMPARED = ("accuracy", "loss", "balanced_accuracy", "macro_f1", "roc_auc", "calibration_error")
CURVES = 23
RULES_ABOVE = 3
"""Most rules that are told at the head of the page; more are only counted there."""
MISTAKES = 24
CONFUSIONS = 10

Curve = TypeVar("Curve", Roc, PrecisionRecall)


def render(
    scored: Scored,
    verdict: Verdict,
    baseline: Baseline | None = None,
    slices: Sequence[Slice] = (),
) -> str:
    """The whole page."""
    title = escape(f"{scored.card.architecture} on {scored.dataset.name}")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{NO_NETWORK}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}: evaluation</title>
<link rel="icon" href="data:,">
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<p class="above">Model evaluation</p>
<h1>{title}</h1>
{_verdict(verdict)}
{_numbers(scored)}
</header>
<main>
{_gate(scored, verdict, baseline)}
{_learning_curves(scored)}
{_confusion_matrix(scored)}
{_class_table(scored)}
{_slice_tables(scored, slices)}
{_roc_curves(scored)}
{_precision_recall_curves(scored)}
{_calibration(scored)}
{_mistakes(scored)}
{_balance(scored)}
{_facts(scored)}
</main>
<footer>Scored with {escape(scored.backend)} on the test split, which training does not see.</footer>
</body>
</html>
"""


def _verdict(verdict: Verdict) -> str:
    if not verdict.rules:
        return '<p class="verdict unset"><strong>No threshold set</strong><span>any accuracy passes</span></p>'
    kind, outcome = ("passed", "✓ Passed") if verdict.passed else ("failed", "✗ Not passed")
    if len(verdict.rules) <= RULES_ABOVE:
        told = [in_print(sentence(rule)) for rule in verdict.rules]
    else:
        told = [f"{sum(rule.passed for rule in verdict.rules)} of {len(verdict.rules)} rules passed"]
    rules = "".join(f"<span>{escape(one)}</span>" for one in told)
    return f'<p class="verdict {kind}"><strong>{outcome}</strong>{rules}</p>'


def _numbers(scored: Scored) -> str:
    metrics, card = scored.metrics, scored.card
    low, high = metrics.interval
    wrong = metrics.examples - int(metrics.confusion.trace())
    history = card.history
    numbers = [
        ("Accuracy", percent(metrics.accuracy), f"95 % interval {100 * low:.2f} to {100 * high:.2f} %"),
        ("Loss", f"{metrics.loss:.4f}", "cross-entropy, lower is better"),
        ("Macro F1", f"{metrics.macro.f1:.4f}", f"balanced accuracy {percent(metrics.balanced_accuracy)}"),
        ("Test examples", f"{metrics.examples:,}", f"{wrong:,} answered wrongly"),
        ("Parameters", short(card.parameters), card.architecture),
    ]
    if history:
        seconds = sum(epoch.seconds for epoch in history)
        numbers.append(("Training", duration(seconds), counted(len(history), "epoch")))
    items = (
        f"<div><dt>{name}</dt><dd>{value}<small>{escape(note)}</small></dd></div>" for name, value, note in numbers
    )
    return f'<dl class="numbers">{"".join(items)}</dl>'


def _gate(scored: Scored, verdict: Verdict, baseline: Baseline | None) -> str:
    if len(verdict.rules) <= RULES_ABOVE and not baseline:
        return ""  # all is said above
    before = baseline.scored.metrics.overall() if baseline and baseline.scored else None

    def line(rule: Rule) -> str:
        kind, mark = ("yes", "✓") if rule.passed else ("no", "✗")
        finding = escape(in_print(rule.finding))
        return f'<tr><th scope="row">{finding}</th><td class="{kind}">{mark} {word(rule)}</td></tr>'

    about, rules = "No threshold is set.", ""
    if verdict.rules:
        about = "A model passes when it keeps every rule."
        rules = (
            '<div><table class="gate"><caption>Rules</caption><thead><tr><th scope="col">Rule</th>'
            f'<th scope="col">Verdict</th></tr></thead><tbody>{"".join(map(line, verdict.rules))}</tbody></table></div>'
        )
    if not baseline:
        return _section("Gate", about, rules)
    if before is None or baseline.test is None:
        return _section("Gate", f"{about} No version is published at {baseline.name} yet.", rules)
    return _section(
        "Gate and baseline",
        f"{about} The model is compared with {baseline.name} on the same test images: {baseline.test.words}.",
        f'<div class="beside">{rules}<div>{_against(scored.metrics.overall(), before)}</div></div>',
    )


def _against(ours: Mapping[str, float], before: Mapping[str, float]) -> str:
    rows = [
        (printed(name), f"{ours[name]:.4f}", f"{before[name]:.4f}", change(ours[name] - before[name]))
        for name in COMPARED
        if name in ours
    ]
    return _table("Both models on the test split", ("Metric", "This model", "Baseline", "Change"), rows)


def _learning_curves(scored: Scored) -> str:
    history = scored.card.history

    def course(key: str) -> list[float]:
        values = [getattr(epoch, key) for epoch in history]
        return values if all(isinstance(value, int | float) and np.isfinite(value) for value in values) else []

    charts = []
    for name, key, test, text in (
        ("Loss", "loss", scored.metrics.loss, lambda value: f"{value:.3g}"),
        ("Accuracy", "accuracy", scored.metrics.accuracy, lambda value: f"{100 * value:.4g} %"),
    ):
        validation = course(f"validation_{key}")
        if values := course(key):
            legend = "<span>training</span>" + ('<span class="of-validation">validation</span>' if validation else "")
            charts.append(
                f'<figure><figcaption><h3>{name}</h3><p class="legend">{legend}'
                f'<span class="of-test">test split {text(test)}</span></p></figcaption>'
                f"{epoch_chart(name, values, validation, test, text)}</figure>"
            )
    if not charts:
        return ""
    return _section(
        "Learning curves",
        "How training went, epoch by epoch, and where the test split stands. A curve that ends far better than the "
        "test line tells of a model that has learned its examples by heart.",
        f'<div class="pair">{"".join(charts)}</div>',
    )


def _confusion_matrix(scored: Scored) -> str:
    metrics, classes = scored.metrics, scored.classes
    mistake = ~np.eye(len(classes), dtype=bool)
    share = metrics.confusion / metrics.confusion.sum(axis=1, keepdims=True).clip(1)
    shade = np.where(mistake, share / max(share[mistake].max(), 1e-9), share)
    if len(classes) <= MATRIX_CLASSES:
        matrix = _matrix_table(metrics, classes, shade)
    else:
        label = (
            f"Confusion matrix of {len(classes)} classes: {metrics.confusion.trace():,} of {metrics.examples:,} "
            "test examples lie on the diagonal"
        )
        matrix = f"<figure>{heat_map(metrics.confusion, shade, classes, label)}</figure>"
    return _section(
        "Confusion matrix",
        "A row for each true class, a column for each answer. Blue are right answers, orange are mistakes; the "
        "stronger the colour, the larger the share of its row.",
        f'<div class="beside">{matrix}{_most_confused(np.where(mistake, metrics.confusion, 0), scored)}</div>',
    )


def _matrix_table(metrics: Metrics, classes: list[str], shade: np.ndarray) -> str:
    longest = max(map(len, classes))
    upright = ' class="upright"' if longest > 3 else ""
    head = "".join(f'<th scope="col"><span{upright}>{escape(name)}</span></th>' for name in classes)

    def cell(truth: int, answer: int) -> str:
        count = metrics.confusion[truth, answer]
        if not count:
            return "<td></td>"
        kind = "right" if truth == answer else "wrong"
        said = f"{classes[truth]} answered as {classes[answer]}: {count:,} of {metrics.per_class[truth].support:,}"
        depth = f"--shade:{shade[truth, answer]:.2f}"
        return f'<td class="{kind}" style="{depth}" title="{escape(said)}">{count}</td>'

    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(cell(truth, answer) for answer in range(len(classes)))}</tr>'
        for truth, name in enumerate(classes)
    )
    return (
        '<div class="matrix" tabindex="0" role="region" aria-label="Confusion matrix" '
        f'style="--classes:{len(classes)};--letters:{min(longest, 14)}"><table>'
        "<caption>Rows: truth. Columns: answer.</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _most_confused(wrong: np.ndarray, scored: Scored) -> str:
    most = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [divmod(int(index), len(wrong)) for index in most if wrong.flat[index]]
    rows = [
        (
            scored.classes[truth],
            scored.classes[answer],
            f"{wrong[truth, answer]:,}",
            percent(wrong[truth, answer] / scored.metrics.per_class[truth].support),
        )
        for truth, answer in pairs
    ]
    table = _table("Most frequent mistakes", ("Truth", "Answer", "Times", "Of class"), rows, kind="figures pairs")
    longest = max((len(name) for row in rows for name in row[:2]), default=0)
    return f'<div style="--letters:{longest}">{table}</div>' if rows else ""


def _class_table(scored: Scored) -> str:
    metrics, caption = scored.metrics, "Metrics of each class on the test split"
    listed = list(zip(scored.classes, metrics.per_class, metrics.confusion.sum(axis=0).tolist(), strict=True))
    if len(listed) >= LONG_TABLE:
        listed.sort(key=lambda row: (not row[1].support, row[1].f1))
        caption += ", the lowest F1 first"
    rows = [
        (
            name,
            number(one.precision if answered else None),
            number(one.recall if one.support else None),
            number(one.f1 if one.support else None),
            number(one.auc, 4),
            f"{one.support:,}",
        )
        for name, one, answered in listed
    ]
    means = (*(number(value) for value in vars(metrics.macro).values()), number(metrics.roc_auc, 4))
    return _section(
        "Class by class",
        "Precision: how often the answer is right when the model gives it. Recall: how much of a class it finds. "
        "F1 joins both, AUC is the area under the ROC curve.",
        _table(
            caption,
            ("Class", "Precision", "Recall", "F1", "AUC", "Images"),
            rows,
            ("Macro average", *means, f"{metrics.examples:,}"),
        ),
    )


def _slice_tables(scored: Scored, slices: Sequence[Slice]) -> str:
    if not slices:
        return ""

    def row(one: Slice) -> str:
        low, high = one.interval
        name = escape(one.value or "(empty)") + (" *" if one.few else "")
        return (
            f'<tr><th scope="row">{name}</th><td>{percent(one.accuracy)}<small>{100 * low:.1f} to {100 * high:.1f}'
            f"</small></td><td>{number(one.macro_f1)}</td><td>{one.loss:.4f}</td><td>{one.examples:,}</td></tr>"
        )

    head = ("Value", "Accuracy", "Macro F1", "Loss", "Images")
    tables = "".join(
        f"<div>{_framed(column, head, list(map(row, of_column)))}</div>"
        for column, of_column in groupby(slices, lambda one: one.column)
    )
    few = f" * marks fewer than {FEW} images, which tell little." if any(one.few for one in slices) else ""
    return _section(
        "Slices",
        "The test images that share a value in a column of the data set, the least accurate first. Where the whole "
        f"95 % interval lies below the accuracy on all images, {percent(scored.metrics.accuracy)}, chance is an "
        f"unlikely reason.{few}",
        f'<div class="pair">{tables}</div>',
    )


def _least(
    curves: list[tuple[str, Curve]], worth: Callable[[Curve], float], called: str
) -> tuple[list[tuple[str, Curve]], str]:
    """Those to draw, which of many are the worst, and a sentence that says so."""
    if len(curves) <= CURVES:
        return curves, ""
    shown = sorted(curves, key=lambda pair: worth(pair[1]))[:CURVES]
    return shown, f" Of {len(curves)} classes, the {len(shown)} with the smallest {called} are drawn."


def _stamp(chart: str, name: str, value: str) -> str:
    """A small chart with its name and value below."""
    return f"<li><figure>{chart}<figcaption><strong>{escape(name)}</strong><br>{value}</figcaption></figure></li>"


def _roc_curves(scored: Scored) -> str:
    defined = [(name, one.roc) for name, one in zip(scored.classes, scored.metrics.per_class, strict=True) if one.roc]
    shown, note = _least(defined, lambda roc: roc.auc, "area")
    stamps = "".join(
        _stamp(roc_chart(name, roc), name, f"area {roc.auc:.4f}")
        for name, roc in [("all classes", scored.metrics.micro_roc), *shown]
    )
    return _section(
        "ROC curves, one class against the rest",
        "Across, the share of false alarms; up, the share of hits. A curve along the upper left corner is perfect "
        "(area 1), the dashed diagonal is guessing (area 0.5). The first curve counts every class of every image "
        f"(micro-average).{note}",
        f'<ul class="stamps">{stamps}</ul>',
    )


def _precision_recall_curves(scored: Scored) -> str:
    of_class = zip(scored.classes, scored.metrics.per_class, strict=True)
    defined = [(name, one.precision_recall) for name, one in of_class if one.precision_recall]
    if not defined:
        return ""
    shown, note = _least(defined, lambda curve: curve.average, "average precision")
    stamps = "".join(
        _stamp(precision_recall_chart(name, curve), name, f"AP {curve.average:.4f}") for name, curve in shown
    )
    return _section(
        "Precision and recall, one class against the rest",
        "Across, the share of a class that is found (recall); up, how often the answer is right when it is given "
        "(precision). A curve along the upper right corner is perfect (average precision, AP, 1). It shows more than "
        f"the ROC curve where a class is rare.{note}",
        f'<ul class="stamps">{stamps}</ul>',
    )


def _calibration(scored: Scored) -> str:
    found = scored.metrics.calibration
    rows = [(printed(name), f"{value:.4f}") for name, value in scored.metrics.overall().items()]
    whole = _table("Metrics of the whole test split", ("Metric", "Value"), rows)
    return _section(
        "Calibration and overall metrics",
        "Whether the model's confidence can be believed: of the answers it gives with 80 % confidence, 80 % should be "
        "right. Below the diagonal it is too sure of itself, above it too modest. The expected calibration error is "
        f"the mean distance from the diagonal, over {len(found.count)} bins of confidence weighted by their answers.",
        f'<div class="pair"><figure><figcaption><h3>Expected calibration error {found.error:.4f}</h3><p class="legend">'
        '<span>accuracy</span><span class="of-test">ideal</span><span class="of-share">share of answers</span></p>'
        f"</figcaption>{calibration_chart(found)}</figure><div>{whole}</div></div>",
    )


def _balance(scored: Scored) -> str:
    per_class = scored.metrics.per_class
    columns = {"Test images": [one.support for one in per_class]}
    training = scored.card.dataset.train_counts if scored.card.dataset else []
    if len(training) == len(per_class):
        columns = {"Training images": training} | columns

    def bar(count: int, largest: int) -> str:
        return f'<td><span class="bar" style="--share:{count / max(largest, 1):.3f}">{count:,}</span></td>'

    rows = [
        f'<tr><th scope="row">{escape(name)}</th>'
        f"{''.join(bar(counts[index], max(counts)) for counts in columns.values())}</tr>"
        for index, name in enumerate(scored.classes)
    ]
    return _section(
        "Class balance",
        "How many images of each class there are. A class with few training images is learned less well, and one with "
        "few test images is judged less surely.",
        _framed("Images of each class", ("Class", *columns), rows, kind="figures bars"),
    )


def _mistakes(scored: Scored) -> str:
    title = "Most confident mistakes"
    confidence = scored.probabilities.max(axis=1)
    wrong = np.flatnonzero(scored.answers != scored.labels)
    if not len(wrong):
        return _section(title, f"None: all {scored.metrics.examples:,} answers are right.")
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]

    def stamp(index: int, image: np.ndarray) -> str:
        truth, answer = scored.classes[scored.labels[index]], scored.classes[scored.answers[index]]
        said = escape(f"Test image {scored.places[index]}: {truth}, answered as {answer}")
        return (
            f'<li><figure><img src="{picture(image)}" alt="{said}" title="{said}">'
            f"<figcaption>is <strong>{escape(truth)}</strong><br>answered <strong>{escape(answer)}</strong><br>"
            f"{percent(confidence[index])} sure</figcaption></figure></li>"
        )

    pixels = " pixels" if max(scored.dataset.image_shape[:2]) <= PICTURE // 2 else ""
    shown = f"{len(surest)} of {len(wrong):,} wrong answers" if len(surest) < len(wrong) else "All wrong answers"
    return _section(
        title,
        f"{shown}, the surest first. Some are hard for people too, and some may carry a wrong label.",
        f'<ul class="stamps{pixels}">{"".join(map(stamp, surest.tolist(), scored.examples.images(surest)))}</ul>',
    )


def _facts(scored: Scored) -> str:
    card, data = scored.card, scored.dataset
    height, width, channels = data.image_shape
    model = {
        "architecture": card.architecture,
        "parameters": card.parameters,
        "input": f"{height} × {width} pixels, {counted(channels, 'channel')}",
        "classes": len(scored.classes),
        **{name.replace("_", " "): value for name, value in card.hyperparameters.items()},
        "SHA-256": scored.model_sha256,
    }
    known = card.dataset
    trained_on = (
        {
            "name": known.name,
            "layout": known.layout,
            "source": known.source,
            "training examples": known.train_examples,
            "test examples": known.test_examples,
            "SHA-256": known.sha256,
        }
        if known
        else {}
    )
    tested_on = {"name": data.name, "layout": data.layout, "test examples": scored.metrics.examples}
    if data.skipped:
        tested_on["damaged, left out"] = len(data.skipped)
    return _section(
        "Model and data",
        "",
        f'<div class="pair"><div>{_facts_table("Model", model)}'
        f"{_facts_table('Libraries it was trained with', card.libraries)}</div>"
        f"<div>{_facts_table('Data set it was trained on', trained_on)}"
        f"{_facts_table('Data set it was tested on', tested_on)}</div></div>",
    )


def _section(title: str, about: str, content: str = "") -> str:
    lead = f'<p class="lead">{escape(about)}</p>' if about else ""
    return f"<section><h2>{escape(title)}</h2>{lead}{content}</section>"


def _table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    foot: Sequence[str] | None = None,
    kind: str = "figures",
) -> str:
    """A table whose first column names the row; a long one scrolls in itself."""

    def line(cells: Sequence[str]) -> str:
        name, *others = map(escape, cells)
        return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'

    return _framed(caption, head, [line(row) for row in rows], f"<tfoot>{line(foot)}</tfoot>" if foot else "", kind)


def _framed(caption: str, head: Sequence[str], body: list[str], last: str = "", kind: str = "figures") -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    table = (
        f'<table class="{kind}"><caption>{escape(caption)}</caption><thead><tr>{names}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody>{last}</table>"
    )
    if len(body) < LONG_TABLE:
        return table
    return f'<div class="long" tabindex="0" role="region" aria-label="{escape(caption)}">{table}</div>'


def _facts_table(caption: str, facts: Mapping[str, Any]) -> str:
    def line(name: str, value: Any) -> str:
        kind = ' class="digest"' if name == "SHA-256" else ""
        text = f"{value:,}" if type(value) is int else str(value)
        return f'<tr><th scope="row">{escape(name)}</th><td{kind}>{escape(text)}</td></tr>'

    rows = "".join(line(name, value) for name, value in facts.items() if value not in (None, ""))
    return f'<table class="facts"><caption>{escape(caption)}</caption><tbody>{rows}</tbody></table>' if rows else ""


def picture(image: np.ndarray) -> str:
    """A PNG of an image as a data URI, scaled down to at most PICTURE pixels a side.

    Args:
        image: uint8, shape (height, width, channels): 3 channels are RGB, 4 RGBA; of any other number the mean is
            shown in grey.
    """
    from PIL import Image

    drawn = Image.fromarray(image if image.shape[2] in (3, 4) else image.mean(axis=2).astype(np.uint8))
    drawn.thumbnail((PICTURE, PICTURE))
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def printed(metric: str) -> str:
    """A metric's name for people: `top_3_accuracy` is Top 3 accuracy."""
    words = metric.replace("_", " ").replace("f1", "F1").replace("roc auc", "ROC AUC")
    return words[0].upper() + words[1:]


def change(difference: float) -> str:
    """A difference of metrics for people, without a sign where it is none."""
    told = f"{difference:+.4f}".replace("-", "−")
    return told[1:] if told.endswith("0.0000") else told


def in_print(words: str) -> str:
    """Comparisons as they are printed."""
    return words.replace(">=", "≥").replace("<=", "≤")


def percent(share: float) -> str:
    """A share from 0 to 1 for people; 100 % only where it is all."""
    return "> 99.99 %" if 0.99995 <= share < 1 else f"{100 * share:.2f} %"


def number(value: float | None, digits: int = 3) -> str:
    """A metric for people, with a dash where it is not defined."""
    return "–" if value is None else f"{value:.{digits}f}"


def short(count: int) -> str:
    """A number for people, in millions where it has as many."""
    return f"{count:,}" if count < 1_000_000 else f"{count / 1e6:,.1f} M"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
