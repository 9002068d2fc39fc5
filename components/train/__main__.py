"""Command line of the train step."""

from pathlib import Path
from typing import Any

import click

from ..common.cli import leave_at_once, step
from ..common.options import Input, Output, executor_input, inputs, on_corrupt, outputs, section

SECONDS_BETWEEN_LINES = 60.0
"""Of a long epoch, in a log."""

data = section("Data")
network = section("Network")
fine_tuning = section("Fine-tuning")
training = section("Training")
about = section("Model card", setting="any")


@step("hyperparameters.Hyperparameters", store=("base_model", "model_config"))
@inputs("--dataset", required=True, type=Input("Dataset"), help="Data set folder, as download writes it.")
@data(
    "--image-size",
    default="",
    metavar="HxW",
    help="Height and width in pixels to resize all images to, as 64x96, or 64 for both; empty: no resizing if all "
    "images have one size of at most 256 x 256, else 128 x 128.",
)
@on_corrupt
@data(
    "--validation-split",
    default=0.0,
    help="Share of the training split to validate on, 0 to 1; 0: the data set's split 'validation', if it has one.",
)
@section("Data", setting="any")(
    "--memory-budget",
    default=0,
    metavar="MB",
    help="Memory for images, in MB; what does not fit is read from disk during training, with the same result. 0: half "
    "of the free memory.",
)
@network(
    "--architecture",
    default="auto",
    help="Network: auto (dense for grey images of at most 32 x 32, else compact), dense (one hidden layer of 128 "
    "units), compact (four convolutions, learns from few images), cnn (two convolutions), squeezenet, resnet18 or "
    "resnet34.",
)
@network(
    "--model-config",
    default="",
    help="Your own network instead of --architecture, as written by model.to_json() of Keras: a file, an s3:// URI, or "
    "the JSON itself. It gets pixels of 0 to 1, or of 0 to 255 if it has a layer Rescaling or Normalization, and ends "
    "in one number per class, logits or softmax.",
)
@network(
    "--base-model",
    default="",
    help="A trained model to fine-tune, instead of --architecture: s3://bucket/name/ for its newest published version, "
    "s3://bucket/name/version/, a model folder or a .keras file; or keras:// and a network of Keras Applications, as "
    "keras://MobileNetV3Small, which was trained on ImageNet. For other classes it gets a new last layer.",
)
@network(
    "--base-weights",
    default="",
    help="Weights of a keras:// base model without its top layer: a file or an s3:// URI; empty: Keras downloads those "
    "of ImageNet.",
)
@fine_tuning("--freeze", type=click.BOOL, default=False, help="Train the last layer of the base model only.")
@fine_tuning(
    "--unfreeze-after",
    default=0,
    help="Epochs for which the last layer is trained alone, before all others are too; 0: as --freeze says.",
)
@fine_tuning(
    "--base-learning-rate",
    default=0.0,
    help="Step size of the optimizer for all layers but the last; 0: --learning-rate, for keras:// a tenth of it.",
)
@training(
    "--epochs",
    default=0,
    help="Passes over the training split; 0: 5, for compact 10 to 120, for keras:// 5 to 30, the fewer images the "
    "more.",
)
@training("--batch-size", default=0, help="Images per optimizer step; 0: 128, for compact and keras:// 32.")
@training("--learning-rate", default=0.001, help="Step size of the optimizer, above 0.")
@training("--seed", default=0, help="Seed of the initial weights and of the order of the images.")
@training("--optimizer", default="adam", help="Optimizer: adam, adamw, rmsprop or sgd (with momentum 0.9).")
@training(
    "--schedule",
    default="auto",
    help="Learning rate over the training: constant, cosine (falling to zero), or auto (cosine for compact and "
    "keras://, else constant).",
)
@training(
    "--warmup",
    default=0.0,
    help="Share of the training in which the learning rate rises from zero, 0 to 1; 0: none, for compact and keras:// "
    "0.1.",
)
@training(
    "--early-stopping",
    default=0,
    help="Epochs without a better validation loss after which training stops, with the best weights; 0: never.",
)
@training(
    "--class-weights",
    default="",
    help="Weight of each class in the loss: balanced (inverse to its frequency), or JSON such as "
    '{"cat": 2.5}, the others 1; empty: 1 for all.',
)
@training(
    "--augmentation",
    default="auto",
    help="Random changes of the training images, comma-separated: shift, rotation, flip, light (contrast, brightness, "
    "tint); none; auto: shift,flip,light for compact and keras://, else none.",
)
@about("--intended-use", default="", help="What the model is for, and what it is not for.")
@about("--limitations", default="", help="Where it is known or likely to fail.")
@about("--owner", default="", help="Who is responsible for it, and how to reach them.")
@about("--licence", default="", help="Its licence, as an SPDX identifier or in words.")
@outputs("--model", required=True, type=Output("Model"), help="Folder to write the model to.")
@outputs("--model-card", type=Output("Markdown"), help="File to write the model card to, as Markdown.")
@outputs(
    "--tensorboard",
    type=Output("Artifact", folder=True),
    help="Folder to write event files for TensorBoard to, after every epoch.",
)
@outputs(
    "--mlpipeline-ui-metadata", type=Output("Artifact"), help="File to write the views to, as the KFP UI reads them."
)
@executor_input
def main(
    dataset: Path,
    model: Path,
    model_card: Path | None,
    tensorboard: Path | None,
    mlpipeline_ui_metadata: Path | None,
    intended_use: str,
    limitations: str,
    owner: str,
    licence: str,
    memory_budget: int,
    executor_input: str,
    **chosen: Any,
) -> None:
    """Train an image classifier on the training split of a data set.

    The data set is a TFDS-prepared folder, an .npz with x_train, y_train, x_test, y_test, IDX files, or folders
    train/<label>/*.png. Image size, channels and classes are read from it.

    The model folder holds 1/ (SavedModel, for TensorFlow Serving and KServe), model.keras, model.tflite (the same
    weights for LiteRT, its answers checked), model.json (the card, with loss and accuracy of every epoch) and README.md
    (the card for people). The model takes raw pixels, 0 to 255; scaling is inside.

    An interrupted training resumes after its last complete epoch when the same command is run again. The same seed on
    the same machine gives the same weights.

    All GPUs of the machine are used. Where TF_CONFIG names several workers, or TRAIN_WORKERS and TRAIN_SERVICE those of
    a Kubernetes Indexed Job, each takes its share of every batch, and the chief writes the model.

    \b
    Examples:
      trainyard train --dataset runs/latest/download/dataset --architecture cnn --model my-model
      trainyard train --dataset my-images --image-size 64 --validation-split 0.1 --early-stopping 3 \\
        --epochs 50 --architecture resnet18 --augmentation shift,flip --tensorboard logs --model my-model
      trainyard train --dataset new-images --base-model s3://models/mnist/ --learning-rate 0.0002 \\
        --model better-model
      trainyard train --dataset my-photos --base-model keras://MobileNetV3Small --unfreeze-after 3 --model my-model
      trainyard train --dataset my-images --model-config my-network.json --model my-model
    """
    from ..common.artifacts.model import README, About
    from ..common.progress import Progress
    from .hyperparameters import Hyperparameters
    from .run import Training

    about = About(
        intended_use=intended_use.strip(), limitations=limitations.strip(), owner=owner.strip(), licence=licence.strip()
    )
    progress = Progress("train", SECONDS_BETWEEN_LINES)
    training = Training(dataset, Hyperparameters(**chosen), model, about, progress, memory_budget, tensorboard)
    card = training.run()
    if card is None:
        return  # the chief of several workers writes
    from ..common.files import write_text
    from ..common.kfp_outputs import artifact_uri, record_artifacts
    from .kfp_views import views

    text = (model / README).read_text(encoding="utf-8")
    write_text(model_card, text)
    write_text(mlpipeline_ui_metadata, views(text, artifact_uri(executor_input, "tensorboard") if tensorboard else ""))
    last = card.history[-1]
    record_artifacts(
        executor_input,
        {"model": {"architecture": card.architecture, "loss": last.loss, "accuracy": last.accuracy}},
    )


if __name__ == "__main__":
    leave_at_once(main)
