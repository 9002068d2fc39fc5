"""What a training starts from: a network of ours, a team's own, or a trained model to fine-tune.

Each ends up in the same form: raw 0..255 pixels in (`image`), a layer Softmax `probabilities` last, whose input are the
logits that training takes.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..common.artifacts.model import CARD, KERAS_MODEL, Card
from ..common.cli import BadInput
from ..common.files import sha256_of_file
from ..common.progress import readable_shape
from . import architectures
from .pretrained import application

if TYPE_CHECKING:
    import keras

    from ..common.artifacts.published import PublishedVersion
    from .hyperparameters import Hyperparameters

Shape = tuple[int, int, int]
HDF5 = b"\x89HDF\r\n\x1a\n"
"""First bytes of such a file."""


class Origin(Protocol):
    """Where the network comes from."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def described(self) -> dict[str, str]:
        """Source and digest, for the card and the checkpoint."""

    def build(self, image_shape: Shape, classes: list[str], say: Callable[[str], None]) -> keras.Model:
        """The network, ready to be trained.

        Args:
            image_shape: (height, width, channels) of the data.
            classes: Names of its classes.
            say: Told what is kept of a trained model.

        Raises:
            BadInput: it does not fit the data.
        """


def origin_of(chosen: Hyperparameters) -> Origin:
    """What the caller chose to start from; `--architecture` counts where nothing else was chosen.

    Raises:
        BadInput: there is nothing at that place, or it is no network.
    """
    if chosen.model_config:
        return _own_network(chosen.model_config)
    if chosen.pretrained:
        return application(chosen.base_model, chosen.base_weights)
    if chosen.base_model:
        return _base_model(chosen.base_model)
    return OurNetwork(chosen.architecture)


class OurNetwork:
    """One of `architectures`."""

    def __init__(self, architecture: str) -> None:
        self.name = architecture
        self.described = {"architecture": architecture}

    def build(self, image_shape: Shape, classes: list[str], say: Callable[[str], None]) -> keras.Model:
        """See `Origin.build`."""
        return architectures.build(self.name, image_shape, len(classes))


@dataclass(frozen=True)
class OwnNetwork:
    """A team's own, as `model.to_json()` gives it; its weights are still to be learned."""

    name: str
    described: dict[str, str]
    config: str

    def build(self, image_shape: Shape, classes: list[str], say: Callable[[str], None]) -> keras.Model:
        """See `Origin.build`."""
        import keras

        try:
            network = keras.models.model_from_json(self.config)
        except Exception as error:  # Keras raises whatever a layer's constructor raises
            raise BadInput(f"--model-config: {_why_not(error)}") from None
        if not isinstance(network, keras.Model):
            raise BadInput(
                "--model-config: expected a Sequential or functional model, received something else; write it with "
                "model.to_json()"
            )
        return _classifier("--model-config", network, image_shape, len(classes))


@dataclass(frozen=True)
class BaseModel:
    """A trained model.

    Attributes:
        fetch: Brings its `model.keras`, and its card if it has one, into a folder.
    """

    name: str
    described: dict[str, str]
    fetch: Callable[[Path], None]

    def build(self, image_shape: Shape, classes: list[str], say: Callable[[str], None]) -> keras.Model:
        """See `Origin.build`; where the data has other classes, the model gets a new last layer."""
        import keras

        with tempfile.TemporaryDirectory() as scratch:
            self.fetch(Path(scratch))
            has_card = (Path(scratch) / CARD).is_file()
            known = Card.read(Path(scratch)).classes if has_card else None
            try:
                model = keras.saving.load_model(Path(scratch) / KERAS_MODEL, compile=False)
            except Exception as error:  # Keras raises whatever a layer's constructor raises
                raise BadInput(f"{self.name}: {_why_not(error)}") from None
        takes = [(tensor.name, *tensor.shape[1:]) for tensor in model.inputs]
        ours = takes[0][0] == "image" and None not in takes[0] and model.layers[-1].name == "probabilities"
        count = model.output_shape[-1]
        model = model if ours else _classifier(self.name, model, image_shape, count)
        if tuple(model.input_shape[1:]) != image_shape:
            raise _misfit(self.name, model.input_shape[1:], image_shape)
        if count == len(classes) and (known is None or _same(known, classes)):
            say(f"fine-tuning {self.name}, all weights")
            return model
        say(f"fine-tuning {self.name}, with a new last layer for {len(classes)} classes")
        return _with_new_head(self.name, model, len(classes))


def _own_network(given: str) -> OwnNetwork:
    """The network in a file, in an object of the store, or in the option itself."""
    where = "the option itself" if given.lstrip().startswith("{") else given
    if given.lstrip().startswith("{"):
        content = given.encode()
    elif given.startswith("s3://"):
        from ..common.store import s3

        try:
            content = s3.content(s3.client(), *s3.parse_uri(given))
        except FileNotFoundError as error:
            raise BadInput(f"--model-config: {error}; upload the file, or correct the URI") from None
    else:
        try:
            content = Path(given).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise BadInput(
                f"--model-config: expected a file of Keras JSON, an s3:// URI or the JSON itself, received {given!r}; "
                "write one with model.to_json()"
            ) from None
    try:
        parsed = json.loads(content)
        name = parsed["config"]["name"]
    except (ValueError, KeyError, TypeError):
        raise BadInput(
            f"--model-config: expected the JSON of a Keras model in {where}, received something else; write it with "
            "model.to_json()"
        ) from None
    if "module" not in parsed:
        raise BadInput(
            f"--model-config: expected the JSON of a Keras 3 model in {where}, received that of Keras "
            f"{parsed.get('keras_version', 'before 3')}; write it again with model.to_json() of Keras 3"
        )
    digest = hashlib.sha256(content).hexdigest()
    return OwnNetwork(name, {"model_config": where, "model_config_sha256": digest}, content.decode())


def _base_model(uri: str) -> BaseModel:
    """A published version, a model folder or a `.keras` file; only what training needs of it is fetched."""
    from ..common.artifacts import published

    file = Path(uri.removeprefix("file://"))
    if file.is_file():
        _check_keras_file(uri, file)
        digest = sha256_of_file(file)
        return BaseModel(uri, _base(uri, digest), lambda folder: (folder / KERAS_MODEL).symlink_to(file.resolve()))
    version = published.choose(uri, "--base-model")
    if version is None:
        raise BadInput(f"--base-model: expected a published version, received none below {uri}; publish one first")
    weights = next((file for file in version.files if file.path == KERAS_MODEL), None)
    if weights is None:
        raise BadInput(f"--base-model: expected {KERAS_MODEL} in {uri}, received a model without it; train it again")
    where = version.uri if uri.startswith("s3://") else uri
    return BaseModel(where, _base(where, weights.sha256), _fetcher(version))


def _check_keras_file(uri: str, file: Path) -> None:
    """Raise BadInput where a file is no archive of Keras 3; HDF5 is not read, since it may hold code."""
    with file.open("rb") as opened:
        first = opened.read(8)
    if first.startswith(b"PK"):
        return
    received = "HDF5, as .h5 files are" if first == HDF5 else "another file"
    raise BadInput(
        f"--base-model: expected a .keras file, received {received}, in {uri}; save the model again with "
        'model.save("model.keras")'
    )


def _base(source: str, sha256: str) -> dict[str, str]:
    return {"base_model": source, "base_model_sha256": sha256}


def _fetcher(version: PublishedVersion) -> Callable[[Path], None]:
    from ..common.artifacts import published

    needed = replace(version, files=[file for file in version.files if file.path in (CARD, KERAS_MODEL)])
    return lambda folder: published.fetch(needed, folder)


def _classifier(option: str, network: keras.Model, image_shape: Shape, classes: int) -> keras.Model:
    """A network of somebody else's in our form: layers `image`, `scaling` (if it has none), itself, `probabilities`."""
    import keras

    try:
        if not network.built:
            network.build((None, *image_shape))
        takes, gives = tuple(network.inputs[0].shape[1:]), tuple(network.outputs[0].shape[1:])
    except Exception as error:  # a layer that cannot be, such as pooling of nothing
        raise BadInput(
            f"{option}: expected a network for {readable_shape(image_shape)} pixels, received one that cannot take "
            f"them ({_first_line(error)}); change its layers or --image-size"
        ) from None
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise BadInput(
            f"{option}: expected one input and one output, received {len(network.inputs)} and "
            f"{len(network.outputs)}; take a network that classifies images alone"
        )
    grey = image_shape[2] == 1 and len(takes) == 2  # as many tutorials have it: 28 x 28
    if not _fits(takes, image_shape[:2] if grey else image_shape):
        raise _misfit(option, takes, image_shape)
    if gives != (classes,):
        raise BadInput(
            f"{option}: expected one number for each of the {classes} classes, received an output of "
            f"{readable_shape(gives)}; change the last layer to {classes} units"
        )
    image = pixels = keras.Input(image_shape, name="image")
    scalers = (keras.layers.Rescaling, keras.layers.Normalization)
    if not any(isinstance(layer, scalers) for layer in architectures.every_layer(network)):
        pixels = keras.layers.Rescaling(1 / 255, name="scaling")(pixels)
    if grey:
        pixels = keras.layers.Reshape(image_shape[:2], name="grey")(pixels)
    logits = _up_to_the_logits(option, network)(pixels)
    return keras.Model(image, keras.layers.Softmax(name="probabilities")(logits), name=network.name)


def _up_to_the_logits(option: str, network: keras.Model) -> keras.Model:
    """The network without the softmax that it may end in."""
    import keras

    last = _operations(network)[-1]
    activation = getattr(last, "activation", None)
    softmax = activation is keras.activations.softmax
    if isinstance(last, keras.layers.Softmax) or (softmax and isinstance(last, keras.layers.Activation)):
        return keras.Model(network.inputs[0], last.input, name=network.name)
    if softmax:
        last.activation = keras.activations.linear
    elif activation not in (None, keras.activations.linear) or isinstance(last, keras.Model):
        ends_in = getattr(activation, "__name__", type(last).__name__)
        raise BadInput(
            f"{option}: expected a network that ends in logits or a softmax, received one that ends in {ends_in}; "
            "end it in Dense(number of classes)"
        )
    elif not isinstance(last, keras.layers.Layer):
        raise BadInput(
            f"{option}: expected a layer at the end, received the operation {last.name}; end it in "
            "Dense(number of classes)"
        )
    return network


def _with_new_head(name: str, model: keras.Model, classes: int) -> keras.Model:
    """The same model with another last Dense, of `classes` units."""
    import keras

    *_, before, network, _ = model.operations
    if isinstance(network, keras.Model):  # of somebody else's, in our form
        last = _operations(network)[-1]
        features = keras.Model(network.inputs[0], last.input, name=network.name)(before.output)
    else:
        last, features = network, network.input
    if not isinstance(last, keras.layers.Dense):
        raise BadInput(
            f"{name}: expected a model that ends in Dense, to give it one for other classes, received one that ends "
            f"in {type(last).__name__}; start from another model"
        )
    logits = keras.layers.Dense(classes, name="logits")(features)
    return keras.Model(model.inputs[0], keras.layers.Softmax(name="probabilities")(logits), name=model.name)


def _operations(network: keras.Model) -> list[Any]:
    """Layers and bare operations in order; a Sequential has layers alone."""
    operations: list[Any] = getattr(network, "operations", network.layers)
    return operations


def _same(known: list[str], classes: list[str]) -> bool:
    """Whether both name the same classes; one may only have numbered them."""
    return known == classes or [str(index) for index in range(len(classes))] in (known, classes)


def _fits(takes: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return len(takes) == len(shape) and all(wanted in (None, there) for wanted, there in zip(takes, shape, strict=True))


def _misfit(option: str, takes: Any, image_shape: Shape) -> BadInput:
    wanted = [size or "any" for size in takes]
    same_channels = len(wanted) == 3 and wanted[2] in ("any", image_shape[2]) and "any" not in wanted[:2]
    advice = f"pass --image-size {wanted[0]}x{wanted[1]}" if same_channels else "take a network for such images"
    return BadInput(
        f"{option}: expected a network for images of {readable_shape(image_shape)}, received one for "
        f"{readable_shape(wanted)}; {advice}"
    )


def _why_not(error: Exception) -> str:
    """Why Keras refuses a model."""
    import keras

    text = str(error)
    if "Lambda" in text:
        return (
            "expected layers that are data, received a Lambda layer, which would run code from the file; replace it "
            "by a layer of Keras"
        )
    return (
        f"expected a model of Keras {keras.__version__}'s own layers, received another ({_first_line(error)[:200]}); "
        "leave out code of your own"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
