"""The networks of Keras Applications (https://keras.io/api/applications/), pretrained on ImageNet, to fine-tune."""

from __future__ import annotations

import difflib
import hashlib
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.cli import BadInput
from ..common.progress import readable_shape
from .hyperparameters import KERAS

if TYPE_CHECKING:
    import keras

APPLICATIONS = (
    *("ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtTiny", "ConvNeXtXLarge"),
    *("DenseNet121", "DenseNet169", "DenseNet201"),
    *(f"EfficientNetB{size}" for size in range(8)),
    *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "L", "M", "S")),
    *("InceptionResNetV2", "InceptionV3", "MobileNet", "MobileNetV2", "MobileNetV3Large", "MobileNetV3Small"),
    *("NASNetLarge", "NASNetMobile", "ResNet101", "ResNet101V2", "ResNet152", "ResNet152V2", "ResNet50", "ResNet50V2"),
    *("VGG16", "VGG19", "Xception"),
)
"""Their names in `keras.applications`, which is not imported to check one."""


@dataclass(frozen=True)
class Application:
    """One of these networks: its base, and a new last layer for the classes of the data.

    Attributes:
        name: Its name in `keras.applications`.
        described: It and its weights, for the card and the checkpoint.
        fetch: Brings the file of the weights into a folder; None: Keras downloads those of ImageNet.
    """

    name: str
    described: dict[str, str]
    fetch: Callable[[Path], Path | None]

    def build(self, image_shape: tuple[int, int, int], classes: list[str], say: Callable[[str], None]) -> keras.Model:
        """See `Origin.build`. The network's own preprocessing becomes part of the model.

        Raises:
            BadInput: the images are too small, or the weights are those of another network.
            RuntimeError: Keras cannot download the weights.
        """
        import keras

        base = self._base((*image_shape[:2], 3))
        image = keras.Input(image_shape, name="image")
        colours = keras.layers.Concatenate(name="colours")([image] * 3) if image_shape[2] == 1 else image
        # Without batch statistics, as Keras's guide to transfer learning says: those of few images spoil the features
        features = base(self._prepare(colours), training=False)
        logits = keras.layers.Dense(len(classes), name="logits")(keras.layers.Dropout(0.2)(features))
        say(f"fine-tuning {self.name}, with a new last layer for {len(classes)} classes")
        return keras.Model(image, keras.layers.Softmax(name="probabilities")(logits), name=self.name)

    @property
    def _create(self) -> Callable[..., keras.Model]:
        import keras

        create: Callable[..., keras.Model] = getattr(keras.applications, self.name)
        return create

    def _prepare(self, pixels: keras.KerasTensor) -> keras.KerasTensor:
        """Pixels of 0 to 255 as the network takes them: Keras has a `preprocess_input` beside each."""
        return sys.modules[self._create.__module__].preprocess_input(pixels)

    def _base(self, shape: tuple[int, int, int]) -> keras.Model:
        """The network up to the mean of its features, with its weights."""
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that weights were trained at another size
            file = self.fetch(Path(scratch))
            try:
                base = self._create(
                    weights=None if file else "imagenet", include_top=False, input_shape=shape, pooling="avg"
                )
            except ValueError as error:
                raise BadInput(
                    f"{KERAS}{self.name}: expected larger images, received {readable_shape(shape[:2])} "
                    f"({_first_line(error)}); pass --image-size 224"
                ) from None
            except Exception as error:  # Keras raises a bare one where it cannot download
                if "URL fetch failure" not in str(error):
                    raise
                raise RuntimeError(
                    f"{KERAS}{self.name}: expected its ImageNet weights from storage.googleapis.com, received no "
                    "answer; pass a file or an s3:// URI of them as --base-weights"
                ) from error
            if file:
                try:
                    base.load_weights(file)
                except Exception as error:  # Keras and h5py raise whatever they find
                    raise BadInput(
                        f"--base-weights: expected those of {self.name} without its top layer (*.h5), received others "
                        f"({_first_line(error)[:120]}); take its no_top file"
                    ) from None
        return base


def application(uri: str, weights: str) -> Application:
    """The network that `keras://NAME` names.

    Args:
        uri: `--base-model`.
        weights: A file, an s3:// URI, or empty: Keras downloads those of ImageNet, once.

    Raises:
        BadInput: there is no such network, or nothing at that place.
    """
    name = uri.removeprefix(KERAS)
    if name not in APPLICATIONS:
        like = difflib.get_close_matches(name, APPLICATIONS, n=1, cutoff=0.0)[0]
        raise BadInput(
            f"--base-model: expected {KERAS} and a network of Keras Applications, received {name!r}; did you mean "
            f"{KERAS}{like}?"
        )
    described = {"base_model": uri, "base_weights": weights or "imagenet"}
    if not weights:
        return Application(name, described, lambda folder: None)
    content = _content(weights)
    file_name = weights.rpartition("/")[2]

    def fetch(folder: Path) -> Path:
        (folder / file_name).write_bytes(content)
        return folder / file_name

    return Application(name, described | {"base_weights_sha256": hashlib.sha256(content).hexdigest()}, fetch)


def _content(weights: str) -> bytes:
    from ..common.store import s3

    try:
        if weights.startswith("s3://"):
            return s3.content(s3.client(), *s3.parse_uri(weights))
        return Path(weights.removeprefix("file://")).read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise BadInput(
            f"--base-weights: expected a file or an s3:// URI of one, received {weights!r}; check it"
        ) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
