"""Networks that a team brings: its own as Keras JSON, and trained models to go on from."""

import json
import shutil

import numpy as np
import pytest

from tests.training import npz, train_here, weights
from trainyard.components.common.artifacts.classifier import load_classifier
from trainyard.components.common.artifacts.model import Input, read_card
from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets import open_dataset

STANDING_STILL = 1e-12
"""A learning rate so small that weights stay as they are."""


def digits_of(dataset, *labels):
    """Images and labels of some digits, the labels counted from 0."""
    split = open_dataset(dataset).read("train")
    there = np.isin(split.labels, labels)
    return split.images[there], np.searchsorted(labels, split.labels[there])


def as_in_the_tutorials():
    from keras import Input, Sequential, layers

    hidden = layers.Dense(64, activation="relu")
    return Sequential([Input((28, 28)), layers.Flatten(), hidden, layers.Dropout(0.2), layers.Dense(10)])


def without_input_shape():
    from keras import Sequential, layers

    return Sequential([layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax")])


def with_scaling_of_its_own():
    from keras import Input, Model, layers

    image = Input((None, None, 1), name="image")
    x = layers.Conv2D(64, 9, strides=3, activation="relu")(layers.Rescaling(1 / 127.5, offset=-1)(image))
    x = layers.Dense(10)(layers.GlobalMaxPooling2D()(x))
    return Model(image, layers.Softmax(name="probabilities")(x), name="ours")


def with_an_activation_layer():
    from keras import Input, Sequential, layers

    return Sequential(
        [Input((28, 28, 1)), layers.Flatten(), layers.Dense(64), layers.Dense(10), layers.Activation("softmax")]
    )


NETWORKS = [as_in_the_tutorials, without_input_shape, with_scaling_of_its_own, with_an_activation_layer]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_an_own_network_is_trained_as_ours_are(dataset, tmp_path, network):
    """Softmax or logits at the end, with or without scaling: each learns, and answers with probabilities."""
    import keras

    config = tmp_path / "network.json"
    config.write_text(network().to_json())
    lines = train_here(dataset, tmp_path / "model", model_config=str(config), epochs=4, batch_size=32)
    card = read_card(tmp_path / "model")
    assert card.hyperparameters["model_config"] == str(config)
    assert len(card.hyperparameters["model_config_sha256"]) == 64
    assert "architecture" not in card.hyperparameters
    assert card.architecture in lines
    assert card.litert.written
    saved = keras.saving.load_model(tmp_path / "model" / "model.keras")
    assert ("scaling" in [layer.name for layer in saved.layers]) == (network is not with_scaling_of_its_own)
    split = open_dataset(dataset).read("test")
    answers = load_classifier(tmp_path / "model").predict(split.images)
    assert (answers.argmax(1) == split.labels).mean() > 0.8
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)
    assert answers.max() > 0.5  # two softmaxes, one on the other, would stay below e / (e + 9)


def test_an_own_network_that_was_killed_goes_on_and_another_one_does_not(dataset, tmp_path):
    class Killed(Exception):
        pass

    def kill(line):
        if "epoch 2/" in line:
            raise Killed

    chosen = {"model_config": as_in_the_tutorials().to_json(), "epochs": 3, "learning_rate": 0.01}
    with pytest.raises(Killed):
        train_here(dataset, tmp_path / "model", kill, **chosen)
    train_here(dataset, tmp_path / "whole", **chosen)
    shutil.copy(tmp_path / ".model.checkpoint.npz", tmp_path / ".other.checkpoint.npz")
    assert "resuming after epoch 2" in train_here(dataset, tmp_path / "model", **chosen)
    for mine, reference in zip(weights(tmp_path / "model"), weights(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(mine, reference)
    other = {**chosen, "model_config": without_input_shape().to_json()}
    assert "resuming" not in train_here(dataset, tmp_path / "other", **other)


def test_layers_that_change_images_at_random_are_at_rest_when_the_model_answers(dataset, tmp_path):
    """In the SavedModel and for LiteRT alike; and XLA, which has no kernel for some of them, is not asked."""
    from keras import Input, Sequential, layers

    changes = [layers.RandomFlip(), layers.RandomRotation(0.4), layers.RandomZoom(0.3), layers.RandomContrast(0.5)]
    network = Sequential([Input((28, 28, 1)), *changes, layers.Flatten(), layers.Dense(10)])
    train_here(dataset, tmp_path / "model", model_config=network.to_json(), epochs=1)
    assert read_card(tmp_path / "model").litert.written
    images = open_dataset(dataset).read("test").images[:50]
    litert = load_classifier(tmp_path / "model").predict(images)
    (tmp_path / "model" / "model.tflite").unlink()
    saved = load_classifier(tmp_path / "model")
    assert saved.backend == "TensorFlow"
    np.testing.assert_array_equal(saved.predict(images), saved.predict(images))
    np.testing.assert_allclose(saved.predict(images), litert, atol=1e-4)


def refused(layers, shape=(28, 28, 1)):
    import keras

    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), *layers]).to_json()


def two_outputs():
    from keras import Input, Model, layers

    image = Input((28, 28, 1))
    x = layers.Flatten()(image)
    return Model(image, [layers.Dense(10)(x), layers.Dense(10)(x)]).to_json()


def bare_operation():
    import keras

    image = keras.Input((28, 28, 1))
    return keras.Model(image, keras.ops.softmax(keras.layers.Dense(10)(keras.layers.Flatten()(image)))).to_json()


def own_code():
    import keras

    class Ours(keras.layers.Layer):
        pass

    return refused([Ours(), keras.layers.Dense(10)])


def dense(units, **options):
    import keras

    return keras.layers.Dense(units, **options)


def function():
    import keras

    return keras.layers.Lambda(lambda x: 2 * x)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (lambda: refused([dense(9)]), "expected one number for each of the 10 classes, received an output of 9"),
        (
            lambda: refused([dense(10)], (32, 30, 1)),
            "28 x 28 x 1, received one for 32 x 30 x 1; pass --image-size 32x30",
        ),
        (lambda: refused([dense(10)], (28, 28, 3)), "received one for 28 x 28 x 3; take a network for such images"),
        (lambda: refused([dense(10, activation="sigmoid")]), "received one that ends in sigmoid"),
        (lambda: refused([function(), dense(10)]), "received a Lambda layer"),
        (own_code, "own layers, received another"),
        (two_outputs, "expected one input and one output, received 1 and 2"),
        (bare_operation, "received the operation softmax"),
        (
            lambda: json.dumps({"module": "keras.layers", "class_name": "Dense", "config": {"name": "d", "units": 3}}),
            "expected a Sequential or functional model",
        ),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_in_one_sentence(dataset, tmp_path, config, words):
    with pytest.raises(BadInput, match="--model-config: expected") as refusal:
        train_here(dataset, tmp_path / "model", model_config=config())
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model-config", "nowhere.json"], "expected a file of Keras JSON, an s3:// URI or the JSON itself"),
        (["--model-config", "{}"], "expected the JSON of a Keras model in the option itself"),
        (
            ["--model-config", '{"class_name": "Sequential", "config": {"name": "a"}, "keras_version": "2.4.0"}'],
            "Keras 2.4",
        ),
        (["--model-config", "s3://{bucket}/none.json"], "there is no such object"),
        (["--model-config", "{}", "--base-model", "s3://models/mnist/"], "expected one of them, received both"),
        (["--base-model", "nowhere"], "nowhere: expected a model folder, received nothing there"),
        (["--base-model", "s3://{bucket}/mnist/"], "expected a published version, received none below s3://"),
        (["--base-model", "s3://{bucket}"], "--base-model: expected s3://bucket/name/ or s3://bucket/name/version/"),
        (["--image-size", "big"], "--image-size: expected a height and width in pixels, such as 64x96"),
        (["--image-size", "0x4"], "--image-size: expected a height and width in pixels, such as 64x96"),
        (["--on-corrupt", "ignore"], "--on-corrupt: expected one of fail, skip, received 'ignore'"),
    ],
)
def test_a_place_without_a_network_is_told_before_anything_heavy_begins(
    step, bucket, dataset, tmp_path, options, words
):
    options = [option.replace("{bucket}", bucket) for option in options]
    done = step("train", "--dataset", dataset, "--model", tmp_path / "model", *options)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_training_goes_on_from_the_newest_published_version_with_a_network_from_the_store(
    step, store, bucket, dataset, model, tmp_path
):
    """The published model keeps its answers; the store's JSON is read by the same credentials."""
    for version in (1, 2):
        again = shutil.copytree(model, tmp_path / f"v{version}")
        (again / "note").write_text(f"version {version}")
        done = step("export", "--model", again, "--bucket", bucket, "--model-name", "digits")
        assert done.returncode == 0, done.stderr
    chosen = ("--dataset", dataset, "--epochs", 1, "--learning-rate", STANDING_STILL)
    done = step("train", *chosen, "--base-model", f"s3://{bucket}/digits/", "--model", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert f"fine-tuning s3://{bucket}/digits/2/, all weights" in done.stderr
    given = read_card(tmp_path / "model").hyperparameters
    assert given["base_model"] == f"s3://{bucket}/digits/2/"
    images = open_dataset(dataset).read("test").images
    before, after = (load_classifier(folder).predict(images) for folder in (model, tmp_path / "model"))
    np.testing.assert_allclose(before, after, atol=1e-4)

    store.client.put_object(Bucket=bucket, Key="net.json", Body=as_in_the_tutorials().to_json().encode())
    done = step("train", *chosen, "--model-config", f"s3://{bucket}/net.json", "--model", tmp_path / "own")
    assert done.returncode == 0, done.stderr
    assert read_card(tmp_path / "own").hyperparameters["model_config"] == f"s3://{bucket}/net.json"


def test_for_other_classes_a_base_model_gets_a_new_last_layer_and_keeps_the_rest(dataset, model, tmp_path):
    images, labels = digits_of(dataset, 3, 5, 8)
    data = npz(tmp_path / "data", images, labels)
    lines = train_here(data, tmp_path / "model", base_model=str(model), epochs=1, learning_rate=STANDING_STILL)
    assert "with a new last layer for 3 classes" in lines
    *kept, kernel, bias = weights(tmp_path / "model")
    for mine, reference in zip(kept, weights(model)[:-2], strict=True):
        np.testing.assert_allclose(mine, reference, atol=1e-6)
    assert (kernel.shape, bias.shape) == ((128, 3), (3,))
    assert load_classifier(tmp_path / "model").predict(images[:5]).shape == (5, 3)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_a_keras_file_of_somebody_else_is_gone_on_with(dataset, tmp_path, network):
    """First with its own classes, all weights kept; then what came of that with others, its last layer new."""
    foreign = network()
    if not foreign.built:
        foreign.build((None, 28, 28, 1))
    foreign.save(tmp_path / "foreign.keras")
    still = {"epochs": 1, "learning_rate": STANDING_STILL}
    lines = train_here(dataset, tmp_path / "same", base_model=str(tmp_path / "foreign.keras"), **still)
    assert "all weights" in lines
    split = open_dataset(dataset).read("test")
    pixels = split.images.astype("float32") / (1 if network is with_scaling_of_its_own else 255)
    theirs = foreign.predict(pixels[..., 0] if network is as_in_the_tutorials else pixels, verbose=0)
    ours = load_classifier(tmp_path / "same").predict(split.images)
    np.testing.assert_array_equal(theirs.argmax(1), ours.argmax(1))

    data = npz(tmp_path / "data", *digits_of(dataset, 0, 1))
    lines = train_here(
        data, tmp_path / "other", base_model=str(tmp_path / "same"), epochs=6, batch_size=8, learning_rate=0.01
    )
    assert "new last layer for 2 classes" in lines
    history = read_card(tmp_path / "other").history
    assert history[-1].accuracy > 0.9
    assert [tuple(array.shape) for array in weights(tmp_path / "other")][-1] == (2,)


def test_a_base_model_for_images_of_another_size_says_how_to_fit_them(model, tmp_path):
    data = npz(tmp_path / "data", np.zeros((4, 14, 14), np.uint8), np.arange(4) % 2)
    with pytest.raises(BadInput, match="images of 14 x 14 x 1, received one for 28 x 28 x 1; pass --image-size 28x28"):
        train_here(data, tmp_path / "model", base_model=str(model))
    train_here(data, tmp_path / "model", base_model=str(model), image_size="28", epochs=1)
    assert read_card(tmp_path / "model").input == Input(shape=(28, 28, 1), resized=True)


@pytest.mark.parametrize(
    ("content", "received"),
    [(b"\x89HDF\r\n\x1a\n" + bytes(100), "received HDF5, as .h5 files are"), (b"weights", "received another file")],
)
def test_a_base_model_of_another_format_is_named_at_once(step, dataset, tmp_path, content, received):
    (tmp_path / "model.keras").write_bytes(content)
    done = step(
        "train", "--dataset", dataset, "--base-model", tmp_path / "model.keras", "--model", tmp_path / "out", timeout=20
    )
    assert done.returncode == 2
    assert received in done.stderr
    assert 'save the model again with model.save("model.keras")' in done.stderr
