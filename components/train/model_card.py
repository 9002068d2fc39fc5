"""The model card as Markdown, for people: beside the model as README.md, and in the UI of Kubeflow Pipelines.

What it tells follows Model Cards for Model Reporting (https://arxiv.org/abs/1810.03993), as far as training can know
it; how well the model answers is the evaluation's to tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ..common.artifacts.model import Card, Epoch

EPOCHS = 20
"""Most rows of the history; the epochs of a longer one are thinned."""
CLASSES = 100
"""Most rows of the class balance; of more classes, those with the fewest images."""
NOT_SAID = "Not said. `train --{option}` fills this in."
MARKUP = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"} | {mark: f"\\{mark}" for mark in "\\`*_[]#~!"}
)


def markdown(card: Card) -> str:
    """The card as Markdown. What people wrote into it stands there as they wrote it, never as markup."""
    sections = {
        "Intended use": _said("intended-use", card.about.intended_use),
        "Limitations": _said("limitations", card.about.limitations),
        "Data set": _data(card),
        "Class balance": _balance(card),
        "Hyper-parameters": _hyperparameters(card),
        "History": _history(card),
        "How to use it": _usage(card),
        "Environment": _environment(card),
    }
    return "\n\n".join([_head(card), *(f"## {title}\n\n{content}" for title, content in sections.items())]) + "\n"


def _head(card: Card) -> str:
    height, width, channels = card.input.shape
    said = {"Owner": card.about.owner, "Licence": card.about.licence}
    lines = [
        f"# {plain(card.architecture)}" + (f" on {plain(card.dataset.name)}" if card.dataset else ""),
        f"An image classifier for {len(card.classes)} classes. It takes images of {height} x {width} pixels with "
        f"{channels} {'channel' if channels == 1 else 'channels'}, 0 to 255, and answers with a probability for each "
        f"class. It has {card.parameters:,} parameters.",
    ]
    lines += [f"{name}: {plain(text)}" for name, text in said.items() if text]
    return "\n\n".join(lines)


def _said(option: str, text: str) -> str:
    return plain(text) if text else NOT_SAID.format(option=option)


def _data(card: Card) -> str:
    data = card.dataset
    if data is None:
        return "Not known."
    rows = {
        "Name": data.name,
        "Layout": data.layout,
        "Source": data.source,
        "SHA-256": data.sha256,
        "Training images": f"{data.train_examples:,}",
        "Test images": f"{data.test_examples:,}",
        "Images left out as damaged": f"{data.skipped:,}" if data.skipped else None,
        "Images resized": "yes" if card.input.resized else None,
    }
    return _table(("Of the data set", ""), ((name, value) for name, value in rows.items() if value))


def _balance(card: Card) -> str:
    counts = card.dataset.train_counts if card.dataset else []
    total = max(1, sum(counts))
    rows = [
        (name, f"{count:,}", f"{100 * count / total:.1f} %") for name, count in zip(card.classes, counts, strict=True)
    ]
    note = ""
    if len(rows) > CLASSES:
        rarest = sorted(range(len(rows)), key=counts.__getitem__)[:CLASSES]
        rows = [rows[index] for index in rarest]
        note = f"\n\nThe {CLASSES} rarest of {len(counts):,} classes."
    return _table(("Class", "Training images", "Share"), rows, right=2) + note


def _choices(card: Card) -> str:
    return "".join(f"- {plain(line)}\n" for line in card.choices) + "\n" if card.choices else ""


def _hyperparameters(card: Card) -> str:
    rows = ((name.replace("_", " ").capitalize(), value) for name, value in card.hyperparameters.items())
    return _choices(card) + _table(("Hyper-parameter", "Value"), rows)


def _history(card: Card) -> str:
    history = card.history
    columns = {
        "loss": "Loss",
        "accuracy": "Accuracy",
        "validation_loss": "Validation loss",
        "validation_accuracy": "Validation accuracy",
    }
    there = [name for name in columns if getattr(history[0], name) is not None]
    rows = [(f"{epoch.epoch}", *(f"{getattr(epoch, name):.4f}" for name in there)) for epoch in _thinned(history)]
    note = f"\n\n{len(rows)} of {len(history):,} epochs." if len(rows) < len(history) else ""
    return _table(("Epoch", *(columns[name] for name in there)), rows, right=len(there)) + note


def _thinned(history: list[Epoch]) -> list[Epoch]:
    """At most `EPOCHS` of them, evenly spread, the first and the last among them."""
    if len(history) <= EPOCHS:
        return history
    return [history[round(index * (len(history) - 1) / (EPOCHS - 1))] for index in range(EPOCHS)]


def _usage(card: Card) -> str:
    shape = ", ".join(map(str, card.input.shape))
    files = ["`1/` is a SavedModel for TensorFlow Serving and KServe, `model.keras` the Keras model"]
    if card.litert and card.litert.written:
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


def _environment(card: Card) -> str:
    return _table(("Library", "Version"), ((name, version) for name, version in card.libraries.items()))


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], right: int = 0) -> str:
    """A table; the last `right` columns are numbers."""
    rule = ["---"] * (len(head) - right) + ["---:"] * right
    lines = (head, rule, *([plain(cell) for cell in row] for row in rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(value: Any) -> str:
    """A text on one line that Markdown shows as it is: no markup, no HTML, and no end of a table's cell."""
    text = " ".join(str(value).split()).translate(MARKUP)
    return re.sub(r"^(\d+(?=[.)] )|(?=[-+=]))(.)", r"\1\\\2", text)  # a list, or a line under a heading
