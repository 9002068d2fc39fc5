"""Command line of the train step."""

from pathlib import Path
from typing import Any

import click

from components.common.cli import executor_input, leave_at_once, say, step


@step
@click.option(
    "--dataset",
    required=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Data set folder, as download writes it.",
)
@click.option(
    "--architecture",
    default="dense",
    help="Network: dense (one hidden layer of 128 units), cnn (two convolutions), squeezenet, resnet18 or resnet34.",
)
@click.option("--epochs", default=5, help="Passes over the training split, at least 1.")
@click.option("--batch-size", default=128, help="Images per optimizer step, at least 1.")
@click.option("--learning-rate", default=0.001, help="Step size of the optimizer, above 0.")
@click.option("--seed", default=0, help="Seed of the initial weights and of the order of the images.")
@click.option("--optimizer", default="adam", help="Optimizer: adam, adamw, rmsprop or sgd (with momentum 0.9).")
@click.option(
    "--schedule",
    default="constant",
    help="Learning rate over the training: constant, or cosine (falling to zero).",
)
@click.option(
    "--warmup",
    default=0.0,
    help="Share of the training in which the learning rate rises from zero, 0 to 1.",
)
@click.option(
    "--validation-split",
    default=0.0,
    help="Share of the training split to validate on, 0 to 1; 0: the data set's split 'validation', if it has one.",
)
@click.option(
    "--early-stopping",
    default=0,
    help="Epochs without a better validation loss after which training stops, with the best weights; 0: never.",
)
@click.option(
    "--balance-classes",
    type=bool,
    default=False,
    help="Whether rare classes count as much as frequent ones.",
)
@click.option(
    "--augmentation",
    default="",
    help="Random changes of the training images, comma-separated: shift, rotation, flip; empty: none.",
)
@click.option(
    "--model",
    required=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder to write the model into.",
)
@executor_input
def main(dataset: Path, model: Path, executor_input: str, **chosen: Any) -> None:
    """Train an image classifier on the training split of a data set.

    The data set is a TFDS-prepared folder, an .npz with x_train, y_train, x_test, y_test, IDX files, or folders
    train/<label>/*.png. Image size, channels and classes are read from it.

    The model folder holds 1/ (SavedModel, for TensorFlow Serving and KServe), model.keras, model.tflite (the same
    weights for LiteRT, its answers checked) and model.json (the card, with loss and accuracy of every epoch). The model
    takes raw pixels, 0 to 255; scaling is inside.

    A training that was killed goes on after its last whole epoch when the same command is given again. The same seed on
    the same machine gives the same weights.

    \b
    Example:
      python -m components.train --dataset runs/latest/download/dataset --architecture cnn --model my-model
    """
    from components.train.hyperparameters import Hyperparameters
    from components.train.run import train

    card = train(dataset, Hyperparameters(**chosen), model, lambda line: say("train", line))
    from components.common.kfp_outputs import record_artifacts

    last = card["history"][-1]
    record_artifacts(
        executor_input,
        {"model": {"architecture": card["architecture"], "loss": last["loss"], "accuracy": last["accuracy"]}},
    )


if __name__ == "__main__":
    leave_at_once(main)
