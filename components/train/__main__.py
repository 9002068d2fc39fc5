"""Command line of the train step."""

from pathlib import Path

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
    help="Network: dense (one hidden layer of 128 units) or cnn (two convolutions).",
)
@click.option("--epochs", default=5, help="Passes over the training split, at least 1.")
@click.option("--batch-size", default=128, help="Images per optimizer step, at least 1.")
@click.option("--learning-rate", default=0.001, help="Step size of the Adam optimizer, above 0.")
@click.option("--seed", default=0, help="Seed of the initial weights and of the order of the images.")
@click.option(
    "--model",
    required=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder to write the model into.",
)
@executor_input
def main(
    dataset: Path,
    architecture: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    model: Path,
    executor_input: str,
) -> None:
    """Train an image classifier on the training split of a data set.

    The data set is a TFDS-prepared folder, an .npz with x_train, y_train, x_test, y_test, IDX files, or folders
    train/<label>/*.png. Image size, channels and classes are read from it.

    The model folder holds 1/ (SavedModel, for TensorFlow Serving and KServe), model.keras, model.tflite (the same
    weights for LiteRT, its answers checked) and model.json (the card, with loss and accuracy of every epoch). The model
    takes raw pixels, 0 to 255; scaling is inside.

    \b
    Example:
      python -m components.train --dataset runs/latest/download/dataset --architecture cnn --model my-model
    """
    from components.train.run import Hyperparameters, train

    hyperparameters = Hyperparameters(architecture, epochs, batch_size, learning_rate, seed)
    card = train(dataset, hyperparameters, model, lambda line: say("train", line))
    from components.common.kfp_outputs import record_artifacts

    last = card["history"][-1]
    record_artifacts(
        executor_input,
        {"model": {"architecture": architecture, "loss": last["loss"], "accuracy": last["accuracy"]}},
    )


if __name__ == "__main__":
    leave_at_once(main)
