"""Numbers and names as the report prints them; each function is a filter of the templates."""

from __future__ import annotations


def percent(share: float) -> str:
    """A share from 0 to 1; 100 % only for exactly 1."""
    return "> 99.99 %" if 0.99995 <= share < 1 else f"{100 * share:.2f} %"


def number(value: float | None, digits: int = 3) -> str:
    """A metric, or a dash where it is undefined."""
    return "–" if value is None else f"{value:.{digits}f}"


def thousands(count: int) -> str:
    """A count, with separators."""
    return f"{count:,}"


def short(count: int) -> str:
    """A count, in millions from one million on."""
    return f"{count:,}" if count < 1_000_000 else f"{count / 1e6:,.1f} M"


def difference(value: float) -> str:
    """A difference of metrics, signed unless it rounds to 0."""
    text = f"{value:+.4f}".replace("-", "−")
    return text[1:] if text.endswith("0.0000") else text


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def metric_name(metric: str) -> str:
    """A metric's name for people: `top_3_accuracy` becomes Top 3 accuracy."""
    words = metric.replace("_", " ").replace("f1", "F1").replace("roc auc", "ROC AUC")
    return words[0].upper() + words[1:]


def comparison_signs(text: str) -> str:
    """A rule with typographic signs: `>=` becomes ≥."""
    return text.replace(">=", "≥").replace("<=", "≤")


FILTERS = {
    function.__name__: function
    for function in (percent, number, thousands, short, difference, duration, metric_name, comparison_signs)
}
