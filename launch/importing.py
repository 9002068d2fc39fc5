"""Make a model folder of an ONNX file: `trainyard import-model`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..components.common.artifacts.model import CARD, ONNX_MODEL, Card, Input, Onnx
from ..components.common.cli import BadInput, command, say
from ..components.common.files import atomic_folder, check_output
from ..components.common.options import outputs, section
from ..components.common.progress import readable_shape

TRITON = Path("triton", "model", "1")
"""Where NVIDIA Triton's model repository has the first version of the model `model`."""

Value = TypeVar("Value")
description = section("Description")


@command
@click.argument("file", type=click.Path(path_type=Path))
@section("Outputs")(
    "--model", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Folder to write."
)
@description(
    "--classes",
    default="",
    help="Class names in the order of the answers, comma-separated, or a file with one per line.",
)
@description(
    "--range", "range_", default="", metavar="LOW,HIGH", help="What pixels of 0 and 255 become before --mean and --std."
)
@description("--mean", default="", metavar="NUMBERS", help="Mean of each channel, comma-separated; empty: 0.")
@description("--std", default="", metavar="NUMBERS", help="Standard deviation of each channel; empty: 1.")
@description("--layout", default="", help="NCHW, NHWC or flat; empty: as the shape of the input tells.")
@description(
    "--image-shape",
    default="",
    metavar="HEIGHT,WIDTH,CHANNELS",
    help="Shape of an image, for a flat input: rows of numbers.",
)
@description("--answers", default="", help="logits or probabilities; empty: as the model answers.")
@description("--architecture", default="", help="Name of the network; empty: the name of FILE.")
@description("--resize", is_flag=True, help="Resize images of any size to the model's, as in training.")
@outputs("--triton", is_flag=True, help="Also write triton/, a model repository for NVIDIA Triton.")
def main(
    file: Path,
    model: Path,
    classes: str,
    range_: str,
    mean: str,
    std: str,
    layout: str,
    image_shape: str,
    answers: str,
    architecture: str,
    resize: bool,
    triton: bool,
) -> None:
    """Create a model folder, as train writes one, from the ONNX file FILE.

    The card tells what the file does not: class names, range of the pixels, mean and standard deviation. What is
    neither given nor in the file is asked for on a terminal. evaluate, export, predict and serve then take the folder.
    Weights that the exporter put into files next to it come along.

    \b
    Example:
      trainyard import-model net.onnx --model model --classes cat,dog --range 0,1 \\
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --resize
    """
    from ..components.common.artifacts.onnx import check_description, read_signature

    check_output(model, CARD)
    if not file.is_file():
        raise BadInput(f"FILE: expected an ONNX file, {file} is none; check the path")
    signature = read_signature(file)
    layout = _layout(layout, signature.shape)
    shape = _image_shape(image_shape, layout, signature.shape)
    named = _class_names(classes) or _asked("--classes", "Class names, comma-separated, or a file", _class_names)
    output = _output(signature.outputs, len(named))
    if not range_ and signature.dtype == "uint8":
        range_ = "0,255"
    low, high = _pair(range_) if range_ else _asked("--range", "Range of the pixels, as 0,1 or 0,255", _pair)
    how = Onnx(
        input=signature.input,
        layout=layout,
        range=(low, high),
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        answers=answers or "logits",
        output=output,
        opset=signature.opset,
    )
    check_description(how, shape, signature.dtype, "the description")
    card = Card(
        architecture=architecture or file.stem,
        input=Input(shape=shape, resized=resize),
        classes=named,
        parameters=signature.parameters,
        onnx=how,
    )
    with atomic_folder(model, marker=CARD) as folder:
        _copy(file, folder)
        card = _tried(file, folder, card, answers)
        card.write(folder)
        if triton:
            (folder / TRITON).mkdir(parents=True)
            _copy(file, folder / TRITON)
    told = f"{' x '.join(map(str, shape))}, {len(named)} classes, {card.parameters:,} parameters"
    say("import", f"{model}: {told}, answers {card.onnx.answers if card.onnx else ''}")


def _copy(file: Path, folder: Path) -> None:
    """The file under its name in a model folder, and the weights that lie beside it."""
    from ..components.common.artifacts.onnx import weight_files

    shutil.copyfile(file, folder / ONNX_MODEL)
    for name in weight_files(file):  # in its folder: ONNX Runtime has loaded it, which refuses others
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.parent / name, folder / name)


def _tried(file: Path, folder: Path, card: Card, answers: str) -> Card:
    """The card after the model answered random images: with what it answers, where nobody said.

    Raises:
        BadInput: it cannot answer, or not as it was said.
    """
    from dataclasses import replace

    import numpy as np

    from ..components.common.artifacts.answers import check_answers
    from ..components.common.artifacts.onnx import OnnxClassifier

    assert card.onnx is not None
    images = np.random.default_rng(0).integers(0, 256, (8, *card.input.shape)).astype(np.float32)
    raw = replace(card, onnx=replace(card.onnx, answers="probabilities"))
    raw.write(folder)
    given = OnnxClassifier(folder).predict(images)
    if given.shape[1:] != (len(card.classes),):
        raise BadInput(
            f"--classes: expected {given.shape[-1]} names, as many as the model answers, received {len(card.classes)}"
        )
    shares = bool(given.min() >= 0 and abs(given.sum(axis=1) - 1).max() < 1e-3)
    if (answers or ("probabilities" if shares else "logits")) == "logits":
        return card
    check_answers(file, raw, given)
    return raw


def _layout(given: str, sizes: tuple[int, ...]) -> str:
    """The layout of an input of these sizes: as given, or where the number of channels tells it."""
    from ..components.common.artifacts.onnx import LAYOUTS

    possible = [layout for layout in LAYOUTS if (layout == "flat") == (len(sizes) == 1)]
    likely = [layout for layout in possible if layout == "flat" or sizes[layout.index("C") - 1] in (1, 3, 4)]
    if not given and len(likely) == 1:
        return likely[0]
    layout = given or _asked("--layout", f"Layout, {' or '.join(possible)}", str)
    for one in possible:
        if one.lower() == layout.lower():
            return one
    raise BadInput(
        f"--layout: expected {' or '.join(possible)} for an input of {readable_shape(sizes)}, received {layout!r}; "
        "choose one"
    )


def _image_shape(given: str, layout: str, sizes: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of an image, which the sizes of a flat input do not tell."""
    from ..components.common.artifacts.onnx import LAYOUTS, laid_out

    if given:
        shape = _shape(given)
    elif layout == "flat":
        shape = _asked("--image-shape", f"Height, width and channels of {sizes[0]} numbers, as 28,28,1", _shape)
    else:
        height, width, channels = (sizes[LAYOUTS[layout].index(place)] for place in range(3))
        shape = (height, width, channels)
    if laid_out(shape, layout) != sizes:
        raise BadInput(
            f"--image-shape: expected height, width and channels of an input of {readable_shape(sizes)} ({layout}), "
            f"received {readable_shape(shape)}; correct it"
        )
    return shape


def _output(outputs: dict[str, int | None], classes: int) -> str:
    """The first output of so many classes."""
    for name, count in outputs.items():
        if count in (None, classes):
            return name
    counts = " or ".join(map(str, dict.fromkeys(outputs.values())))
    raise BadInput(
        f"--classes: expected {counts} names, as many as the model answers, received {classes}; name each class"
    )


def _class_names(text: str) -> list[str]:
    if not text:
        return []
    path = Path(text)
    names = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(",")
    found = [name.strip() for name in names if name.strip()]
    if len(found) < 2 or len(set(found)) < len(found):
        raise BadInput(f"--classes: expected two or more different names, received {text[:80]!r}; name each class once")
    return found


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise BadInput(f"{option}: expected numbers, comma-separated, received {text!r}") from None


def _shape(text: str) -> tuple[int, int, int]:
    numbers = _numbers("--image-shape", text)
    if len(numbers) != 3 or not all(number.is_integer() and number > 0 for number in numbers):
        raise BadInput(f"--image-shape: expected three sizes as 28,28,1, received {text!r}; correct it")
    height, width, channels = map(int, numbers)
    return height, width, channels


def _pair(text: str) -> tuple[float, float]:
    numbers = _numbers("--range", text)
    if len(numbers) != 2:
        raise BadInput(f"--range: expected two numbers as 0,1, received {text!r}")
    return numbers[0], numbers[1]


def _asked(option: str, prompt: str, read: Callable[[Any], Value]) -> Value:
    """What a person answers; without a terminal the option is missing."""
    if not sys.stdin.isatty():
        raise BadInput(f"{option}: expected a value, which the ONNX file does not tell, received none; pass it")
    return read(click.prompt(prompt, err=True))
