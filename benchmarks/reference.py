"""The plain way to do each step, as a reader of a tutorial would write it today. Only benchmarks run these.

    python -m benchmarks.reference train --dataset FOLDER --model FOLDER

Each command is a whole process, as the steps are.
"""

from pathlib import Path

import click

PATH = click.Path(path_type=Path)


@click.group()
def main() -> None:
    """Plain variants of the steps."""


@main.command()
@click.option("--url", required=True)
@click.option("--dataset", required=True, type=PATH)
def download(url: str, dataset: Path) -> None:
    """Stream an archive from a URL and extract it while it comes."""
    import tarfile
    import urllib.request

    dataset.mkdir(parents=True)
    with urllib.request.urlopen(url) as stream, tarfile.open(fileobj=stream, mode="r|gz") as archive:
        archive.extractall(dataset, filter="data")


def prepared(dataset: Path, split: str) -> tuple[object, int]:
    """A split as TFDS gives it, pixels scaled to 0..1, and its number of examples."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    folder = next(dataset.rglob("dataset_info.json")).parent
    builder = tfds.builder_from_directory(str(folder))
    data = builder.as_dataset(split=split, as_supervised=True)
    data = data.map(lambda image, label: (tf.cast(image, tf.float32) / 255.0, label), tf.data.AUTOTUNE)
    return data, builder.info.splits[split].num_examples


@main.command()
@click.option("--dataset", required=True, type=PATH)
@click.option("--model", required=True, type=PATH)
@click.option("--epochs", default=5)
def train(dataset: Path, model: Path, epochs: int) -> None:
    """The dense network, by Model.fit over a tf.data pipeline."""
    import keras
    import tensorflow as tf

    data, count = prepared(dataset, "train")
    data = data.cache().shuffle(count).batch(128).prefetch(tf.data.AUTOTUNE)
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile(keras.optimizers.Adam(0.001), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(data, epochs=epochs, verbose=2)
    model.mkdir(parents=True)
    network.save(model / "model.keras")
    network.export(model / "1", verbose=False)


@main.command()
@click.option("--dataset", required=True, type=PATH)
@click.option("--model", required=True, type=PATH)
@click.option("--architecture", required=True)
@click.option("--side", required=True, type=int)
@click.option("--epochs", default=3)
@click.option("--cached", is_flag=True, help="Decode once, and keep the pixels in memory.")
def train_photos(dataset: Path, model: Path, architecture: str, side: int, epochs: int, cached: bool) -> None:
    """One of our networks, by Model.fit over image_dataset_from_directory."""
    import keras
    import tensorflow as tf

    from trainyard.components.train.architectures import build

    data = keras.utils.image_dataset_from_directory(
        dataset / "train", batch_size=128, image_size=(side, side), verbose=False
    )
    network = build(architecture, (side, side, 3), len(data.class_names))
    data = data.cache() if cached else data
    data = data.prefetch(tf.data.AUTOTUNE)
    network.compile(keras.optimizers.Adam(0.001), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(data, epochs=epochs, verbose=2)
    model.mkdir(parents=True)
    network.save(model / "model.keras")
    network.export(model / "1", verbose=False)


@main.command()
@click.option("--dataset", required=True, type=PATH)
@click.option("--model", required=True, type=PATH)
@click.option("--side", required=True, type=int)
def evaluate_photos(dataset: Path, model: Path, side: int) -> None:
    """Loss and accuracy by Model.evaluate over image_dataset_from_directory."""
    import keras
    import tensorflow as tf

    data = keras.utils.image_dataset_from_directory(
        dataset / "test", batch_size=128, image_size=(side, side), shuffle=False, verbose=False
    )
    network = keras.models.load_model(model / "model.keras")
    loss, accuracy = network.evaluate(data.prefetch(tf.data.AUTOTUNE), verbose=2)
    click.echo(f"loss {loss:.4f} accuracy {accuracy:.4f}")


@main.command()
@click.option("--dataset", required=True, type=PATH)
@click.option("--model", required=True, type=PATH)
def evaluate(dataset: Path, model: Path) -> None:
    """Loss and accuracy by Model.evaluate."""
    import keras
    import tensorflow as tf

    data, _ = prepared(dataset, "test")
    loss, accuracy = keras.models.load_model(model / "model.keras").evaluate(
        data.batch(128).cache().prefetch(tf.data.AUTOTUNE), verbose=2
    )
    click.echo(f"loss {loss:.4f} accuracy {accuracy:.4f}")


@main.command()
@click.option("--bucket", required=True)
@click.option("--prefix", required=True)
@click.option("--dataset", required=True, type=PATH)
def download_objects(bucket: str, prefix: str, dataset: Path) -> None:
    """One object after another."""
    import boto3

    store = boto3.client("s3")
    dataset.mkdir(parents=True)
    for page in store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page["Contents"]:
            store.download_file(bucket, item["Key"], str(dataset / item["Key"].removeprefix(prefix)))


@main.command()
@click.option("--model", required=True, type=PATH)
@click.option("--bucket", required=True)
@click.option("--prefix", required=True)
def export(model: Path, bucket: str, prefix: str) -> None:
    """One upload after another."""
    import boto3

    store = boto3.client("s3")
    if bucket not in [known["Name"] for known in store.list_buckets()["Buckets"]]:
        store.create_bucket(Bucket=bucket)
    for path in sorted(model.rglob("*")):
        if path.is_file():
            store.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(model)}")


@main.command()
@click.option("--model", required=True, type=PATH)
@click.option("--port", required=True, type=int)
def serve(model: Path, port: int) -> None:
    """The SavedModel behind the kserve package's ModelServer (V1 protocol)."""
    import kserve
    import tensorflow as tf

    class SavedModel(kserve.Model):
        def load(self) -> bool:
            self.loaded = tf.saved_model.load(str(model / "1"))
            self.answer = self.loaded.signatures["serving_default"]
            self.key = next(iter(self.answer.structured_input_signature[1]))
            self.ready = True
            return True

        def predict(self, payload: dict, headers: dict | None = None, response_headers: dict | None = None) -> dict:
            images = tf.constant(payload["instances"], tf.float32)
            return {"predictions": next(iter(self.answer(**{self.key: images}).values())).numpy().tolist()}

    served = SavedModel("mnist")
    served.load()
    kserve.ModelServer(http_port=port, enable_grpc=False, workers=1).start([served])


if __name__ == "__main__":
    main()
