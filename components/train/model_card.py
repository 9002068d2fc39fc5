"""The model card as Markdown, for people: beside the model as README.md, and in the UI of Kubeflow Pipelines.

What it tells follows Model Cards for Model Reporting (https://arxiv.org/abs/1810.03993), as far as training can know
it; how well the model answers is the evaluation's to tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

README = "README.md"
EPOCHS = 20
"""Most rows of the history; the epochs of a longer one are thinned."""
CLASSES = 100
"""Most rows of the class balance; of more classes, those with the fewest images."""
NOT_SAID = "Not said. `train --{option}` fills this in."
MARKUP = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"} | {mark: f"\\{mark}" for mark in "\\`*_[]#~!"}
)


@dataclass(frozen=True)
class About:
    """What only the people behind a model know of it; empty: not said."""

    intended_use: str = ""
    limitations: str = ""
    owner: str = ""
    licence: str = ""

    def said(self) -> dict[str, str]:
        """What was said, by name."""
        texts = {field.name: getattr(self, field.name).strip() for field in fields(self)}
        return {name: text for name, text in texts.items() if text}


def markdown(card: Mapping[str, Any]) -> str:
    """The card (`model.json`) as Markdown. What people wrote into it stands there as they wrote it, never as markup."""
    sections = {
        "Intended use": _said(card, "intended_use"),
        "Limitations": _said(card, "limitations"),
        "Data set": _data(card),
        "Class balance": _balance(card),
        "Hyper-parameters": _hyperparameters(card),
        "History": _history(card),
        "How to use it": _usage(card),
        "Environment": _environment(card),
    }
    return "\n\n".join([_head(card), *(f"## {title}\n\n{content}" for title, content in sections.items())]) + "\n"


def _head(card: Mapping[str, Any]) -> str:
    height, width, channels = card["input"]["shape"]
    lines = [
        f"# {plain(card['architecture'])} on {plain(card['dataset']['name'])}",
        f"An image classifier for {len(card['classes'])} classes. It takes images of {height} x {width} pixels with "
        f"{channels} {'channel' if channels == 1 else 'channels'}, 0 to 255, and answers with a probability for each "
        f"class. It has {card['parameters']:,} parameters.",
    ]
    about = card.get("about", {})
    for name in ("owner", "licence"):
        if name in about:
            lines.append(f"{name.capitalize()}: {plain(about[name])}")
    return "\n\n".join(lines)


def _said(card: Mapping[str, Any], name: str) -> str:
    text = card.get("about", {}).get(name)
    return plain(text) if text else NOT_SAID.format(option=name.replace("_", "-"))


def _data(card: Mapping[str, Any]) -> str:
    data = card["dataset"]
    rows = {
        "Name": data["name"],
        "Layout": data["layout"],
        "Source": data["source"],
        "SHA-256": data["sha256"],
        "Training images": f"{data['train_examples']:,}",
        "Test images": f"{data['test_examples']:,}",
        "Images left out as damaged": f"{data['skipped']:,}" if data.get("skipped") else None,
        "Images resized": "yes" if card["input"].get("resized") else None,
    }
    return _table(("Of the data set", ""), ((name, value) for name, value in rows.items() if value))


def _balance(card: Mapping[str, Any]) -> str:
    counts = card["dataset"]["train_counts"]
    total = max(1, sum(counts))
    rows = [
        (name, f"{count:,}", f"{100 * count / total:.1f} %")
        for name, count in zip(card["classes"], counts, strict=True)
    ]
    note = ""
    if len(rows) > CLASSES:
        rarest = sorted(range(len(rows)), key=counts.__getitem__)[:CLASSES]
        rows = [rows[index] for index in rarest]
        note = f"\n\nThe {CLASSES} rarest of {len(counts):,} classes."
    return _table(("Class", "Training images", "Share"), rows, right=2) + note


def _hyperparameters(card: Mapping[str, Any]) -> str:
    rows = ((name.replace("_", " ").capitalize(), value) for name, value in card["hyperparameters"].items())
    return _table(("Hyper-parameter", "Value"), rows)


def _history(card: Mapping[str, Any]) -> str:
    history = card["history"]
    columns = {
        "loss": "Loss",
        "accuracy": "Accuracy",
        "validation_loss": "Validation loss",
        "validation_accuracy": "Validation accuracy",
    }
    there = [name for name in columns if name in history[0]]
    rows = [(f"{epoch['epoch']}", *(f"{epoch[name]:.4f}" for name in there)) for epoch in _thinned(history)]
    note = f"\n\n{len(rows)} of {len(history):,} epochs." if len(rows) < len(history) else ""
    return _table(("Epoch", *(columns[name] for name in there)), rows, right=len(there)) + note


def _thinned(history: Sequence[Any]) -> list[Any]:
    """At most `EPOCHS` of them, evenly spread, the first and the last among them."""
    if len(history) <= EPOCHS:
        return list(history)
    return [history[round(index * (len(history) - 1) / (EPOCHS - 1))] for index in range(EPOCHS)]


def _usage(card: Mapping[str, Any]) -> str:
    shape = ", ".join(map(str, card["input"]["shape"]))
    files = ["`1/` is a SavedModel for TensorFlow Serving and KServe, `model.keras` the Keras model"]
    if card["litert"]["written"]:
        files.append("`model.tflite` the same weights for LiteRT")
    return f"""Send the pixels as they are, 0 to 255: they are scaled inside the model. {", ".join(files)}.

```python
import keras

model = keras.saving.load_model("model.keras")
# images: float32, 0 to 255, shape (n, {shape})
probabilities = model.predict(images)
```

To serve it, with Trainyard:

```sh
trainyard serve --target process --model-uri FOLDER-OR-S3-URI
```

or with TensorFlow Serving, from this folder:

```sh
docker run -p 8501:8501 -v "$PWD:/models/model" tensorflow/serving
```"""


def _environment(card: Mapping[str, Any]) -> str:
    return _table(("Library", "Version"), ((name, version) for name, version in card["libraries"].items()))


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], right: int = 0) -> str:
    """A table; the last `right` columns are numbers."""
    rule = ["---"] * (len(head) - right) + ["---:"] * right
    lines = (head, rule, *([plain(cell) for cell in row] for row in rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(value: Any) -> str:
    """A text on one line that Markdown shows as it is: no markup, no HTML, and no end of a table's cell."""
    text = " ".join(str(value).split()).translate(MARKUP)
    return re.sub(r"^(\d+(?=[.)] )|(?=[-+=]))(.)", r"\1\\\2", text)  # a list, or a line under a heading
