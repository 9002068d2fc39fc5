"""Data sets of all layouts, read without TensorFlow."""

import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets import open_dataset
from trainyard.components.common.datasets.decoding import decode_images
from trainyard.components.common.datasets.png import decode_pngs
from trainyard.components.common.datasets.tfrecord import example_class


def pictures(count, height=12, width=9, channels=3, classes=3, seed=0):
    """Smooth random images (so that PNG encoders use all filters) and labels that hold every class."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (count, 4, 4, channels), dtype=np.uint8)
    images = np.stack(
        [np.asarray(grey_or_rgb(one).resize((width, height))).reshape(height, width, channels) for one in small]
    )
    return images, np.arange(count) % classes


def grey_or_rgb(image):
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def png(image):
    file = io.BytesIO()
    grey_or_rgb(image).save(file, "PNG")
    return file.getvalue()


def write_npz(folder, train, test, **more):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "data.npz", x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1], **more)
    return folder


def write_idx(folder, train, test, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    pack = gzip.compress if suffix else bytes
    for prefix, (images, labels) in (("train", train), ("t10k", test)):
        count, height, width, _ = images.shape
        head = struct.pack(">IIII", 0x803, count, height, width)
        (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(pack(head + images.tobytes()))
        head = struct.pack(">II", 0x801, count)
        (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(pack(head + labels.astype(np.uint8).tobytes()))
    return folder


def write_tfds(folder, train, test, dimensions=("-1", "-1", "-1"), encode=png):
    """As TFDS prepares it, in shards of ten; images of a list may differ in size."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = []
    for split, (images, labels) in (("train", train), ("test", test)):
        lengths = [len(labels[at : at + 10]) for at in range(0, len(labels), 10)]
        splits.append({"name": split, "shardLengths": list(map(str, lengths))})
        for shard in range(len(lengths)):
            with (folder / f"made-{split}.tfrecord-{shard:05d}-of-{len(lengths):05d}").open("wb") as file:
                for image, label in list(zip(images, labels, strict=True))[10 * shard : 10 * shard + 10]:
                    example = example_class()()
                    example.features.feature["image"].bytes_list.value.append(encode(image))
                    example.features.feature["label"].int64_list.value.append(int(label))
                    record = example.SerializeToString()
                    file.write(struct.pack("<QI", len(record), 0) + record + bytes(4))
    image = {"image": {"shape": {"dimensions": dimensions}}}
    features = {"image": image, "label": {"classLabel": {"numClasses": "3"}}}
    (folder / "dataset_info.json").write_text(json.dumps({"name": "made", "splits": splits}))
    (folder / "features.json").write_text(json.dumps({"featuresDict": {"features": features}}))
    return folder


def write_packed_npz(folder, train, test):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "data.npz", x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
    return folder


def write_npz_by_column(folder, train, test):
    """With the last index outermost, as arrays from MATLAB are when they come through a transposition."""
    turned = [(np.asfortranarray(images), labels) for images, labels in (train, test)]
    return write_npz(folder, *turned)


def write_packed_idx(folder, train, test):
    return write_idx(folder, train, test, ".gz")


def write_folders(folder, train, test, names="abc"):
    for split, (images, labels) in (("train", train), ("test", test)):
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / split / names[label]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{index:04d}.png").write_bytes(png(image))
    return folder


WRITERS = [
    write_tfds,
    write_npz,
    write_packed_npz,
    write_npz_by_column,
    write_idx,
    write_packed_idx,
    write_folders,
]

TFDS = """
import sys, numpy as np, tensorflow_datasets as tfds
folder, source = sys.argv[1:]
arrays = np.load(source)
class Shapes(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.0")
    def _info(self):
        shape = arrays["x_train"].shape[1:]
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
            "id": tfds.features.Text(),
            "camera": {
                "lens": tfds.features.ClassLabel(names=["wide", "long"]), "age": tfds.features.Scalar(np.float32)},
            "flash": tfds.features.Scalar(np.bool_),
            "box": tfds.features.BBoxFeature(),
            "day": tfds.features.ClassLabel(num_classes=7),
            "image": tfds.features.Image(shape=shape, encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"])}), supervised_keys=("image", "label"))
    def _split_generators(self, manager):
        return {split: self._generate_examples(split) for split in ("train", "test")}
    def _generate_examples(self, split):
        for index, (image, label) in enumerate(zip(arrays["x_" + split], arrays["y_" + split])):
            yield index, {"id": f"№ {index}", "image": image, "label": int(label), "day": index % 7,
                "camera": {"lens": index % 2, "age": index / 2}, "flash": index % 3 == 0,
                "box": tfds.features.BBox(0.0, 0.0, 1.0, 1.0)}
Shapes(data_dir=folder).download_and_prepare()
"""


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A data set that TFDS itself prepared: 60 + 15 colour images in three named classes."""
    folder = tmp_path_factory.mktemp("tfds")
    write_npz(folder / "source", pictures(60), pictures(15, seed=1))
    source, target = folder / "source" / "data.npz", folder / "prepared"
    done = subprocess.run([sys.executable, "-c", TFDS, target, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def as_set(split):
    return sorted((image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True))


def test_a_folder_that_tfds_prepared_is_read_bit_for_bit_without_tensorflow(tfds_folder):
    dataset = open_dataset(tfds_folder)
    assert (dataset.layout, dataset.name, dataset.class_names) == ("tfds", "shapes", ["cat", "dog", "eel"])
    assert dataset.image_shape == (12, 9, 3)
    assert dataset.counts == {"train": 60, "test": 15}
    for split, seed in (("train", 0), ("test", 1)):
        images, labels = pictures(dataset.counts[split], seed=seed)
        expected = sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))
        assert as_set(dataset.read(split)) == expected


def test_tfds_and_this_reader_agree_on_what_is_in_a_folder(tfds_folder):
    program = f"""
import sys, numpy as np, tensorflow_datasets as tfds
builder = tfds.builder_from_directory({str(next(tfds_folder.rglob("dataset_info.json")).parent)!r})
rows = list(tfds.as_numpy(builder.as_dataset(split="test", as_supervised=True)))
np.savez(sys.argv[1], images=np.stack([row[0] for row in rows]), labels=np.array([row[1] for row in rows]))
"""
    answer = tfds_folder.parent / "answer.npz"
    done = subprocess.run([sys.executable, "-c", program, answer], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs, ours = np.load(answer), open_dataset(tfds_folder).read("test")
    np.testing.assert_array_equal(ours.images, theirs["images"])
    np.testing.assert_array_equal(ours.labels, theirs["labels"])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", ["npz", "folders"])
def test_images_come_out_as_they_went_in(tmp_path, layout, channels):
    train, test = pictures(30, channels=channels), pictures(9, channels=channels, seed=1)
    {"npz": write_npz, "folders": write_folders}[layout](tmp_path / "deep" / "er", train, test)
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.image_shape) == (layout, (12, 9, channels))
    assert dataset.class_names == (["a", "b", "c"] if layout == "folders" else ["0", "1", "2"])
    assert as_set(dataset.read("test")) == sorted((i.tobytes(), int(k)) for i, k in zip(*test, strict=True))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_packed_or_not(tmp_path, suffix):
    train, test = pictures(30, channels=1), pictures(9, channels=1, seed=1)
    dataset = open_dataset(write_idx(tmp_path, train, test, suffix))
    assert (dataset.layout, dataset.counts) == ("idx", {"train": 30, "test": 9})
    np.testing.assert_array_equal(dataset.read("train").images, train[0])
    np.testing.assert_array_equal(dataset.read("test").labels, test[1])


def test_a_tfds_folder_wins_over_an_npz_beside_it(tmp_path, tfds_folder):
    write_npz(tmp_path, pictures(6), pictures(3))
    assert open_dataset(tmp_path).layout == "npz"
    prepared = next(tfds_folder.rglob("dataset_info.json")).parent
    (tmp_path / "copy").mkdir()
    for file in prepared.iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    assert open_dataset(tmp_path).layout == "tfds"


def test_class_names_may_stand_in_the_npz_and_numbered_folders_sort_as_numbers(tmp_path):
    named = write_npz(tmp_path / "npz", pictures(6), pictures(3), class_names=np.array(["red", "green", "blue"]))
    assert open_dataset(named).class_names == ["red", "green", "blue"]
    images = pictures(11, classes=11)
    numbered = write_folders(tmp_path / "folders", images, images, [str(number) for number in range(11)])
    assert open_dataset(numbered).class_names == [str(number) for number in range(11)]


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_every_kind_of_png_decodes_as_pillow_decodes_it(mode):
    images, _ = pictures(5, height=20, width=20)
    encoded = []
    for image in images:
        source = Image.fromarray(image)
        source = source.convert(mode)
        file = io.BytesIO()
        source.save(file, "PNG")
        encoded.append(file.getvalue())
    target = "L" if mode in ("L", "1") else "RGB"
    expected = np.stack([np.asarray(Image.open(io.BytesIO(one)).convert(target)) for one in encoded])
    shape = (20, 20, 1 if target == "L" else 3)
    np.testing.assert_array_equal(decode_images(encoded, shape, str), expected.reshape(5, *shape))


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (28, 28, 1), (40, 30, 3)])
def test_the_fast_decoder_undoes_every_png_filter(shape):
    random = np.random.default_rng(3)
    noise = random.integers(0, 256, (20, *shape), dtype=np.uint8)
    slope = np.add.outer(np.arange(20), np.arange(np.prod(shape))).reshape(20, *shape).astype(np.uint8)
    smooth, _ = pictures(20, shape[0], shape[1], shape[2])
    for images in (noise, slope, smooth):
        np.testing.assert_array_equal(decode_pngs([png(image) for image in images], shape), images)
    filters = {kind for image in (*noise, *slope, *smooth) for kind in used_filters(png(image), shape)}
    assert shape == (1, 1, 1) or filters >= {1, 2, 4}


def used_filters(content, shape):
    import zlib

    length = int.from_bytes(content[33:37])
    return zlib.decompress(content[41 : 41 + length])[:: 1 + shape[1] * shape[2]]


def broken(tmp_path):
    """Folders that are no data sets, and a word of the sentence each must end in."""
    train, test = pictures(12, channels=1), pictures(6, channels=1)

    empty = tmp_path / "empty"
    empty.mkdir()
    yield empty, "an empty folder"

    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("no data")
    yield other, "received text; this library is for the classification of images"

    yield tmp_path / "missing", "received nothing"

    keys = tmp_path / "keys"
    keys.mkdir()
    np.savez(keys / "digits.npz", first=train[0], second=train[1])
    yield keys, "expected x_train, y_train, x_test, y_test, received first, second"

    damaged = write_npz(tmp_path / "damaged", train, test)
    (damaged / "data.npz").write_bytes((damaged / "data.npz").read_bytes()[:500])
    yield damaged, "damaged"

    yield write_npz(tmp_path / "beyond", train, (test[0], test[1] + 7)), "expected labels 0 to 2 (3 classes)"
    yield write_npz(tmp_path / "negative", (train[0], train[1] - 1), test), "expected labels"
    yield write_npz(tmp_path / "halves", (train[0], train[1] / 2), test), "names or whole numbers"
    yield write_npz(tmp_path / "words", (train[0], np.array(["a"] * 12)), test), "expected labels among a, received '0'"
    yield (
        write_npz(tmp_path / "fractions", (train[0] / 255, train[1]), test),
        "expected pixels 0 to 1 as in train",
    )
    yield write_npz(tmp_path / "fewer", (train[0][:5], train[1]), test), "received 5 and 12 labels"
    yield write_npz(tmp_path / "none", train, (test[0][:0], test[1][:0])), "expected a split 'test'"

    two = tmp_path / "two"
    write_npz(two / "one", train, test)
    write_npz(two / "other", train, test)
    yield two, "expected one data set, received 2"

    cut = write_idx(tmp_path / "cut", train, test)
    file = cut / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    yield cut, "expected an IDX file"

    uneven = write_folders(tmp_path / "uneven", train, test)
    (uneven / "train" / "a" / "zz.png").write_bytes(png(pictures(1, height=40)[0][0]))
    yield uneven, "(height x width) as the first, received 40 x "

    corrupt = write_folders(tmp_path / "corrupt", train, test)
    (corrupt / "train" / "b" / "zz.png").write_bytes(b"\x89PNG\r\n\x1a\nand then nothing")
    yield corrupt, "zz.png: expected an image"


def read_all(folder):
    dataset = open_dataset(folder)
    return dataset.read("train"), dataset.read("test")


def test_what_is_no_data_set_is_named_in_one_sentence(tmp_path):
    for folder, words in broken(tmp_path):
        with pytest.raises(BadInput) as caught:
            read_all(folder)
        assert words in str(caught.value), folder.name


def test_a_truncated_or_incomplete_tfds_folder_is_refused(tmp_path, tfds_folder):
    prepared = next(tfds_folder.rglob("dataset_info.json")).parent
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in prepared.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    shard = next(copy.glob("*train.tfrecord*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-30])
    with pytest.raises(BadInput, match="truncated"):
        open_dataset(copy).read("train")
    shard.unlink()
    with pytest.raises(BadInput, match=r"lacks .*train\.tfrecord|train\.tfrecord"):
        open_dataset(copy).read("train")
    info = json.loads((copy / "dataset_info.json").read_text())
    info["fileFormat"] = "array_record"
    (copy / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(BadInput, match="TFRecord"):
        open_dataset(copy)
    (copy / "features.json").unlink()
    with pytest.raises(BadInput, match=r"features\.json"):
        open_dataset(copy)


@pytest.mark.parametrize("write", WRITERS)
def test_any_images_can_be_read_without_the_others(tmp_path, write):
    train, test = pictures(35, channels=1), pictures(9, channels=1, seed=1)
    dataset = open_dataset(write(tmp_path, train, test))
    whole = dataset.read("train")
    assert as_set(whole) == sorted((i.tobytes(), int(k)) for i, k in zip(*train, strict=True))
    np.testing.assert_array_equal(dataset.labels("train"), whole.labels)
    np.testing.assert_array_equal(dataset.images("train"), whole.images)
    for indices in ([34, 0, 17, 17, 18], [3], [], list(range(5, 25)), [-1]):
        np.testing.assert_array_equal(dataset.images("train", np.array(indices, int)), whole.images[indices])
    parts = list(dataset.parts("train", 8))
    assert [len(part.labels) for part in parts] == [8, 8, 8, 8, 3]
    np.testing.assert_array_equal(np.concatenate([part.images for part in parts]), whole.images)
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), whole.labels)
    with pytest.raises(IndexError):
        dataset.images("train", np.array([35]))
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy.images("test", np.array([8, 2])), dataset.read("test").images[[8, 2]])


def test_images_of_a_folder_that_tfds_prepared_can_be_read_one_by_one(tfds_folder):
    dataset = open_dataset(tfds_folder)
    whole = dataset.read("train")
    np.testing.assert_array_equal(dataset.images("train", np.array([59, 1, 30])), whole.images[[59, 1, 30]])
    np.testing.assert_array_equal(dataset.labels("train"), whole.labels)


def test_labels_of_large_images_are_found_without_reading_these(tmp_path):
    random = np.random.default_rng(6)
    train, test = ((random.integers(0, 256, (n, 90, 70, 3), np.uint8), random.integers(0, 3, n)) for n in (25, 4))
    dataset = open_dataset(write_tfds(tmp_path, train, test))
    np.testing.assert_array_equal(dataset.labels("train"), train[1])
    for shard in tmp_path.glob("made-train.*"):
        content = bytearray(shard.read_bytes())
        middle = content.index(b"IDAT") + 100
        content[middle : middle + 5000] = bytes(5000)
        shard.write_bytes(content)
    assert open_dataset(tmp_path).column("train", "label") == list(map(str, train[1]))


def test_a_forked_process_reads_on(tmp_path):
    """Of a packed array the unpacked file is shared then: the readers must not move each other's place in it."""
    train, test = pictures(200, channels=1), pictures(9, channels=1)
    dataset = open_dataset(write_packed_npz(tmp_path, train, test))
    dataset.images("train", np.array([1]))
    child = os.fork()
    order = np.random.default_rng(child > 0).permutation(200)
    same = all((dataset.images("train", order[:7]) == train[0][order[:7]]).all() for _ in range(200))
    if not child:
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert same


MEMORY = """
import sys
from pathlib import Path
import numpy as np, PIL.Image
from trainyard.components.common.datasets import open_dataset

def megabytes(name):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024

before = megabytes("VmRSS")
dataset = open_dataset(Path(sys.argv[1]))
indices = np.random.default_rng(0).integers(0, dataset.counts["train"], 20)
images = dataset.images("train", indices)
print(images.nbytes / 2**20, megabytes("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("write", [write for write in WRITERS if write is not write_npz_by_column])
def test_a_data_set_may_be_larger_than_memory(tmp_path, write):
    """Twenty images out of 240 MB cost what twenty images cost."""
    encoded = png(np.random.default_rng(0).integers(0, 256, (200, 200, 1), dtype=np.uint8))

    def many(count):
        blank = np.zeros((1, 200, 200, 1), np.uint8)
        return [None] * count if write is write_tfds else np.repeat(blank, count, axis=0), np.arange(count) % 3

    if write is write_folders:
        write(tmp_path, many(3), many(3))
        first = tmp_path / "train" / "a" / "0000.png"
        first.write_bytes(encoded)
        for index in range(6000):
            (tmp_path / "train" / "a" / f"{index:05d}.png").hardlink_to(first)
    else:
        write(tmp_path, many(6000), many(3), **({"encode": lambda _: encoded} if write is write_tfds else {}))
    done = subprocess.run([sys.executable, "-c", MEMORY, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read, peak = map(float, done.stdout.split())
    assert read < 1
    assert peak < 40


def uneven(channels=3):
    """Images of different sizes, from smooth ones so that resizing can be compared."""
    sizes = [(30 + 7 * index, 50 - 5 * index) for index in range(6)]
    images = [pictures(1, height, width, channels, seed=index)[0][0] for index, (height, width) in enumerate(sizes)]
    return images, np.arange(6) % 3


@pytest.mark.parametrize("write", [write_folders, write_tfds])
def test_images_of_any_size_become_one_size_when_it_is_given(tmp_path, write):
    """Bilinear with antialiasing, as Pillow does it, and whole: the corners of an image stay its corners."""
    images, labels = uneven()
    dataset = open_dataset(write(tmp_path, (images, labels), (images, labels)), image_size=(16, 24))
    assert dataset.image_shape == (16, 24, 3)
    expected = [np.asarray(Image.fromarray(one).resize((24, 16), Image.Resampling.BILINEAR)) for one in images]
    split = dataset.read("train")
    assert as_set(split) == sorted((i.tobytes(), int(k)) for i, k in zip(expected, labels, strict=True))
    np.testing.assert_array_equal(dataset.images("train", np.array([4, 1])), split.images[[4, 1]])
    unresized = open_dataset(tmp_path)
    for read in (unresized.read, unresized.images, lambda split: unresized.images(split, np.array([0, 1]))):
        with pytest.raises(BadInput, match="--image-size"):
            read("train")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_are_resized_as_image_files_are(tmp_path, channels):
    train, test = pictures(12, 20, 30, min(channels, 3)), pictures(3, 20, 30, min(channels, 3))
    if channels == 4:
        train, test = ((np.concatenate([images, images[..., :1]], axis=3), labels) for images, labels in (train, test))
    dataset = open_dataset(write_npz(tmp_path / "npz", train, test), image_size=(8, 9))
    assert dataset.image_shape == (8, 9, channels)
    images = dataset.read("train").images
    if channels < 4:
        files = open_dataset(write_tfds(tmp_path / "files", train, test), image_size=(8, 9))
        np.testing.assert_array_equal(images, files.read("train").images)
    np.testing.assert_array_equal(dataset.images("train", np.array([5])), images[[5]])


def test_a_photo_stands_as_the_camera_was_held(tmp_path):
    """Cameras store the sensor's picture and say how to turn it; browsers and viewers turn it."""
    image = pictures(1, height=24, width=40)[0][0]
    exif = Image.Exif()
    exif[0x0112] = 6
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(image).save(tmp_path / split / name / "1.jpg", exif=exif, quality=95)
    dataset = open_dataset(tmp_path)
    assert dataset.image_shape == (40, 24, 3)
    np.testing.assert_allclose(dataset.read("test").images[0], np.rot90(image, -1), atol=24)


def test_colour_is_not_lost_because_the_first_image_is_grey(tmp_path):
    train, test = pictures(6), pictures(3)
    write_folders(tmp_path, train, test)
    first = tmp_path / "train" / "a" / "0000.png"
    Image.fromarray(train[0][0]).convert("L").save(first)
    dataset = open_dataset(tmp_path)
    assert dataset.image_shape == (12, 9, 3)
    assert (tmp_path / "train" / "a").is_dir()
    np.testing.assert_array_equal(dataset.read("test").images[0], test[0][0])
    grey = dataset.read("train").images[0]
    assert (grey == grey[..., :1]).all()


@pytest.mark.parametrize("write", [write_folders, write_tfds])
def test_damaged_images_are_left_out_when_that_is_asked_for(tmp_path, write):
    train, test = pictures(30, 60, 50), pictures(6, 60, 50, seed=1)
    damaged = {0: b"", 3: png(train[0][3])[:900], 8: b"<html>404</html>"}
    encoded = iter([*(damaged.get(index, png(image)) for index, image in enumerate(train[0])), *map(png, test[0])])
    if write is write_tfds:
        write(tmp_path, train, test, encode=lambda _: next(encoded))
        names = ["train[0]", "train[3]", "train[8]"]
    else:
        write(tmp_path, train, test)
        for index, content in damaged.items():
            (tmp_path / "train" / "abc"[index % 3] / f"{index:04d}.png").write_bytes(content)
        names = ["train/a/0000.png", "train/a/0003.png", "train/c/0008.png"]
    with pytest.raises(BadInput, match="expected an image"):
        open_dataset(tmp_path).read("train")
    for read in (lambda dataset: dataset.read("train"), lambda dataset: next(dataset.parts("train", 100))):
        dataset = open_dataset(tmp_path, on_corrupt="skip")
        split = read(dataset)
        kept = [pair for index, pair in enumerate(zip(*train, strict=True)) if index not in damaged]
        assert as_set(split) == sorted((image.tobytes(), int(label)) for image, label in kept)
        assert (dataset.counts, dataset.skipped) == ({"train": 27, "test": 6}, names)
        assert dataset.told_skipped() == f"3 damaged images left out: {', '.join(names)}"
        np.testing.assert_array_equal(dataset.labels("train"), split.labels)
        np.testing.assert_array_equal(dataset.images("train", np.array([0, 26])), split.images[[0, 26]])
        assert len(dataset.read("test").labels) == 6
        assert dataset.skipped == names
    other = Image.fromarray(train[0][0]).resize((8, 8))
    file = io.BytesIO()
    other.save(file, "PNG")
    if write is write_folders:  # another size is no damage
        (tmp_path / "train" / "a" / "zz.png").write_bytes(file.getvalue())
        with pytest.raises(BadInput, match=r"zz\.png: expected images of one size"):
            open_dataset(tmp_path, on_corrupt="skip").read("train")


def test_a_split_of_damaged_images_only_is_refused(tmp_path):
    write_folders(tmp_path, pictures(6), pictures(3))
    for file in (tmp_path / "test").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(BadInput, match=r"received test \(0\), train \(6\), 3 damaged"):
        open_dataset(tmp_path, on_corrupt="skip").read("test")


def test_a_damaged_record_counts_as_a_damaged_image(tmp_path):
    write_tfds(tmp_path, pictures(9), pictures(3), ("12", "9", "3"))
    shard = tmp_path / "made-train.tfrecord-00000-of-00001"
    content = bytearray(shard.read_bytes())
    content[12:16] = b"\xff\xff\xff\xff"
    shard.write_bytes(content)
    with pytest.raises(BadInput, match="damaged bytes"):
        open_dataset(tmp_path).read("train")
    dataset = open_dataset(tmp_path, on_corrupt="skip")
    assert len(dataset.read("train").labels) == len(dataset.labels("train")) == 8
    assert dataset.skipped == ["train[0]"]


def test_labels_of_an_npz_may_be_names(tmp_path):
    train, test = pictures(12), pictures(6)
    names = np.array(["cat", "ant", "bee"])
    dataset = open_dataset(write_npz(tmp_path / "a", (train[0], names[train[1]]), (test[0], names[test[1]])))
    assert dataset.class_names == ["ant", "bee", "cat"]
    assert [dataset.class_names[label] for label in dataset.read("test").labels] == names[test[1]].tolist()
    given = (train[0], names[train[1]].astype(bytes)), (test[0], names[test[1]].astype(bytes))
    ordered = open_dataset(write_npz(tmp_path / "b", *given, class_names=np.array(["bee", "cat", "dog", "ant"])))
    assert ordered.class_names == ["bee", "cat", "dog", "ant"]
    np.testing.assert_array_equal(ordered.labels("test"), np.array([1, 3, 0])[test[1]])


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8, "one-hot", "column"])
def test_labels_of_an_npz_may_be_any_whole_numbers_or_one_hot(tmp_path, kind):
    train, test = pictures(12), pictures(6)

    def written(labels):
        if kind == "one-hot":
            return np.eye(4, dtype=np.float32)[labels]
        return labels[:, None] if kind == "column" else labels.astype(kind)

    dataset = open_dataset(write_npz(tmp_path, (train[0], written(train[1])), (test[0], written(test[1]))))
    assert dataset.class_names == list("0123" if kind == "one-hot" else "012")
    np.testing.assert_array_equal(dataset.labels("train"), train[1])
    np.testing.assert_array_equal(dataset.read("test").labels, test[1])


def test_columns_of_an_npz(tmp_path):
    test = pictures(3)
    told = {"light_test": np.array(["dark", "bright", "dark"]), "age_test": np.array([1, 2, 3]), "wide_test": test[0]}
    dataset = open_dataset(write_npz(tmp_path, pictures(6), test, **told))
    assert dataset.column("test", "light") == ["dark", "bright", "dark"]
    assert dataset.column("test", "age") == ["1", "2", "3"]
    with pytest.raises(BadInput, match=r"'wide' of test, received the columns light, age;"):
        dataset.column("test", "wide")
    with pytest.raises(BadInput, match="received no columns"):
        dataset.column("train", "light")


def test_columns_of_folders_are_those_of_their_metadata_csv(tmp_path):
    """As Hugging Face's imagefolder has it; names are relative to the split's folder."""
    write_folders(tmp_path, pictures(6), pictures(4))
    table = '\ufefffile_name,light,place\nb/0001.png,dark,"Oslo, N"\na/0003.png,bright,\nz/none.png,dark,Rome\n'
    (tmp_path / "test" / "metadata.csv").write_text(table, encoding="utf-8")
    (tmp_path / "test" / "a" / "0000.png").write_bytes(b"damaged")
    dataset = open_dataset(tmp_path)
    assert dataset.column("test", "light") == ["", "bright", "dark", ""]  # a/0000, a/0003, b/0001, c/0002
    assert dataset.column("test", "place") == ["", "", "Oslo, N", ""]
    assert open_dataset(tmp_path, on_corrupt="skip").column("test", "light") == ["bright", "dark", ""]
    with pytest.raises(BadInput, match="received the columns light, place"):
        dataset.column("test", "lamp")
    with pytest.raises(BadInput, match="received no columns"):
        dataset.column("train", "light")
    for text, said in (("name,light\nx,y\n", "a column file_name"), ("file_name,light\n0000.png,y\n", "0000.png")):
        (tmp_path / "test" / "metadata.csv").write_text(text)
        with pytest.raises(BadInput, match=said):
            open_dataset(tmp_path).column("test", "light")


def test_columns_of_a_tfds_folder_are_its_scalar_features(tfds_folder):
    dataset = open_dataset(tfds_folder)
    assert dataset.class_names == ["cat", "dog", "eel"]
    number = [int(text.removeprefix("№ ")) for text in dataset.column("test", "id")]
    assert sorted(number) == list(range(15))
    assert dataset.column("test", "camera/lens") == [("wide", "long")[index % 2] for index in number]
    assert dataset.column("test", "camera/age") == [f"{index / 2:g}" for index in number]
    assert dataset.column("test", "flash") == ["true" if index % 3 == 0 else "false" for index in number]
    assert dataset.column("test", "day") == [str(index % 7) for index in number]
    assert dataset.column("test", "label") == [dataset.class_names[label] for label in dataset.labels("test")]
    with pytest.raises(BadInput) as caught:
        dataset.column("test", "box")
    assert "received the columns camera/age, camera/lens, day, flash, id, label;" in str(caught.value)


def test_idx_files_have_no_columns(tmp_path):
    dataset = open_dataset(write_idx(tmp_path, pictures(6, channels=1), pictures(3, channels=1)))
    with pytest.raises(BadInput, match="received no columns"):
        dataset.column("test", "light")


def test_what_is_no_image_of_a_class_is_left_out_and_told(tmp_path):
    folder = write_folders(tmp_path, pictures(9), pictures(3))
    image = png(pictures(1)[0][0])
    strays = ["extra/a/1.png", "test/b/1.docx", "train/a/000.heic", "train/a/deeper/1.txt", "train/loose.png"]
    for name in (*strays, "train/a/.DS_Store", "train/Thumbs.db", "test/metadata.csv", "__MACOSX/._1.png", "README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image if name.endswith(".png") else b"no image")
    (folder / "train" / "b" / "dead.png").symlink_to("nothing.png")
    dataset = open_dataset(folder)
    assert (dataset.counts, dataset.class_names) == ({"train": 9, "test": 3}, ["a", "b", "c"])
    assert dataset.notes == [
        "6 files left out, no image in the folder of a class: "
        "test/b/1.docx, train/a/000.heic, train/a/deeper/1.txt and 3 more"
    ]
    for name in (*strays, "train/b/dead.png"):
        (folder / name).unlink()
    assert open_dataset(folder).notes == []


@pytest.mark.parametrize("place", ["train/d", "test/d", "test/A", "validation/d"])
def test_every_class_has_images_to_learn_from(tmp_path, place):
    """Whether its folder is empty, holds other files, or stands in another split only."""
    folder = write_folders(tmp_path, pictures(9), pictures(3))
    (folder / place).mkdir(parents=True)
    for name in ("0.heic", "0.png"):
        with pytest.raises(BadInput, match=rf"each class in train/<label>/, received none of {place[-1]}[; ]"):
            open_dataset(folder)
        (folder / place / name).write_bytes(png(pictures(1)[0][0]) if name.endswith("png") else b"")
    if place == "train/d":
        assert open_dataset(folder).class_names == list("abcd")


@pytest.mark.parametrize("validation", ["val", "Valid", "validation"])
def test_splits_may_be_called_what_people_call_them(tmp_path, validation):
    train, test = pictures(9), pictures(3)
    write_folders(tmp_path, train, test)
    (tmp_path / "train").rename(tmp_path / "Train")
    (tmp_path / "test").rename(tmp_path / validation)
    dataset = open_dataset(tmp_path)
    assert dataset.counts == {"train": 9, "validation": 3}
    assert as_set(dataset.read("validation")) == sorted((i.tobytes(), int(k)) for i, k in zip(*test, strict=True))
    (tmp_path / "Train" / "a" / "0000.png").write_bytes(b"")
    with pytest.raises(BadInput, match=r"Train/a/0000\.png: expected an image"):
        open_dataset(tmp_path).read("train")
    (tmp_path / "Training").mkdir()
    with pytest.raises(BadInput, match="expected one folder of the split train, received Train and Training"):
        open_dataset(tmp_path)


def write_unsplit(folder, counts):
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for index, image in enumerate(pictures(count, seed=len(label))[0]):
            (folder / label / f"{index:02d}.png").write_bytes(png(image))
    return folder


def test_folders_of_classes_alone_are_split_here(tmp_path):
    folder = write_unsplit(tmp_path / "pets", {"cats": 12, "dogs": 2, "eels": 7})
    (folder / "metadata.csv").write_text("file_name,light\ncats/01.png,dark\n")
    (folder / "README.md").write_text("Pets.")
    (folder / "eels" / "12.heic").write_bytes(b"")
    dataset = open_dataset(tmp_path)
    assert (dataset.name, dataset.class_names, dataset.counts) == (
        "pets",
        ["cats", "dogs", "eels"],
        {"test": 6, "train": 15},
    )
    assert dataset.notes == [
        "split here, for want of a test split: 15 images to learn from, 6 for the test (every fifth of each class)",
        "1 file left out, no image in the folder of a class: eels/12.heic",
    ]
    assert dataset.column("test", "light") == ["dark", "", "", "", "", ""]
    cats, dogs, eels = pictures(12, seed=4)[0], pictures(2, seed=4)[0], pictures(7, seed=4)[0]
    expected = np.concatenate([cats[[1, 6, 11]], dogs[[1]], eels[[1, 6]]])
    np.testing.assert_array_equal(dataset.read("test").images, expected)
    assert dataset.read("test").labels.tolist() == [0, 0, 0, 1, 2, 2]
    assert len(as_set(dataset.read("train")) + as_set(dataset.read("test"))) == 21
    assert not set(as_set(dataset.read("train"))) & set(as_set(dataset.read("test")))


def test_folders_of_classes_alone_are_the_last_thing_looked_for(tmp_path):
    train, test = pictures(9), pictures(3)
    project = write_unsplit(tmp_path / "project", {"docs": 3, "assets": 3, "test/unit": 3, "test/whole": 3})
    write_folders(project / "data", train, test)
    assert open_dataset(tmp_path).counts == {"train": 9, "test": 3}
    for counts, said in (
        ({"cats": 5}, "received cats alone; add others"),
        ({"test/cats": 5, "test/dogs": 5}, "a folder train beside test, received none; add it, or rename one to train"),
        ({"cats": 5, "dogs": 1}, "two images or more of each class, one for the test, received one of dogs;"),
        ({"cats": 5, "dogs": 5, "eels": 0}, "received none of eels;"),
    ):
        folder = tmp_path / said[-6:-1] / "-".join(counts)
        for label in counts:
            (folder / label).mkdir(parents=True)
        for label, count in counts.items():
            for index in range(count):
                (folder / label / f"{index}.png").write_bytes(png(train[0][index]))
        with pytest.raises(BadInput, match=said):
            open_dataset(folder)


def test_train_and_evaluate_tell_how_the_folders_were_understood(step, tmp_path):
    folder = write_unsplit(tmp_path / "pets", {"cats": 10, "dogs": 10})
    (folder / "cats" / "10.heic").write_bytes(b"")
    notes = open_dataset(folder).notes
    assert len(notes) == 2
    model = tmp_path / "model"
    done = step("train", "--dataset", folder, "--epochs", "1", "--model", model)
    assert done.returncode == 0, done.stderr
    assert all(note in done.stderr for note in notes)
    assert "evaluate will need" not in done.stderr
    done = step("evaluate", "--dataset", folder, "--model", model, "--evaluation", tmp_path / "evaluation")
    assert done.returncode == 0, done.stderr
    assert all(note in done.stderr for note in notes)
    assert json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["examples"] == 4

    validated = write_folders(tmp_path / "validated", pictures(9), pictures(3))
    (validated / "test").rename(validated / "valid")
    done = step("train", "--dataset", validated, "--epochs", "1", "--model", tmp_path / "second")
    assert done.returncode == 0, done.stderr
    assert "no test split; evaluate on another split with --split" in done.stderr
    assert "validation loss" in done.stderr


def test_a_data_set_is_called_after_what_was_fetched(tmp_path):
    folder = write_folders(tmp_path / "dataset", pictures(6), pictures(3))
    assert open_dataset(folder).name == "dataset"
    for source, name in (
        ("/home/me/my-photos", "my-photos"),
        ("my photos/", "my photos"),
        ("s3://datasets/12ab/Pets.tar.xz", "Pets"),
        ("s3://pets/", "pets"),
        ("https://example.org/a/my%20pets.zip?download=1", "my pets"),
        (".", "dataset"),
    ):
        (folder / "download.json").write_text(json.dumps({"source": source}))
        assert open_dataset(folder).name == name
    for file in folder.rglob("*.png"):
        file.unlink()
    (folder / "download.json").write_text(json.dumps({"source": "s3://datasets/12ab/Pets.zip"}))
    with pytest.raises(BadInput, match=r"^s3://datasets/12ab/Pets.zip: expected"):
        open_dataset(folder)


def test_what_a_mac_adds_to_an_archive_is_no_data_set(tmp_path):
    write_folders(tmp_path / "my-photos", pictures(6), pictures(3))
    for split in ("train", "test"):
        (tmp_path / "__MACOSX" / "my-photos" / split / "a").mkdir(parents=True)
        (tmp_path / "__MACOSX" / "my-photos" / split / "a" / "._0000.png").write_bytes(b"Mac OS X")
    dataset = open_dataset(tmp_path)
    assert (dataset.name, dataset.counts, dataset.notes) == ("my-photos", {"train": 6, "test": 3}, [])


@pytest.mark.parametrize("names", [("X_{}", "Y_{}"), ("{}_images", "{}_labels"), ("images_{}", "labels_{}")])
@pytest.mark.parametrize("packed", [np.savez, np.savez_compressed])
def test_arrays_of_an_npz_may_be_called_what_people_call_them(tmp_path, names, packed):
    """As scikit-learn's tutorials and MedMNIST do."""
    splits = {"train": pictures(9), "val": pictures(4, seed=1), "test": pictures(6, seed=2)}
    arrays = {name.format(split): one for split, pair in splits.items() for name, one in zip(names, pair, strict=True)}
    packed(tmp_path / "medical.npz", **arrays, light_test=np.array(["dark"] * 6))
    dataset = open_dataset(tmp_path)
    assert dataset.counts == {"train": 9, "test": 6, "validation": 4}
    for split, (images, labels) in splits.items():
        read = dataset.read("validation" if split == "val" else split)
        np.testing.assert_array_equal(read.images, images)
        np.testing.assert_array_equal(read.labels, labels)
    np.testing.assert_array_equal(dataset.images("test", np.array([5, 0])), splits["test"][0][[5, 0]])
    assert dataset.column("test", "light") == ["dark"] * 6


def test_an_array_that_is_called_as_it_should_be_wins(tmp_path):
    train, test = pictures(9), pictures(3)
    write_npz(tmp_path, train, test, labels_test=np.array(["dim"] * 3), test_images=test[0][:, :2])
    dataset = open_dataset(tmp_path)
    np.testing.assert_array_equal(dataset.read("test").images, test[0])
    assert dataset.column("test", "labels") == ["dim"] * 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["first", "second"], "received first, second; rename them"),
        (["X_train", "Y_test", "y_train"], "received X_train, Y_test, y_train; add x_test"),
        (["x_train", "y_train", "x_test", "y_test", "x_val"], "x_val; add y_validation"),
    ],
)
def test_arrays_that_are_missing_are_named(tmp_path, given, said):
    np.savez(tmp_path / "data.npz", **{key: np.zeros(3) for key in given})
    with pytest.raises(BadInput, match=said):
        open_dataset(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_come_last(tmp_path, channels):
    (train, labels), test = pictures(9, channels=channels), pictures(3, channels=channels)
    write_npz(tmp_path, (train.transpose(0, 3, 1, 2), labels), test)
    with pytest.raises(BadInput, match=rf"received \(9, {channels}, 12, 9\), channels first; transpose them: x_train"):
        open_dataset(tmp_path)
    assert open_dataset(write_npz(tmp_path, (train, labels), test)).image_shape == (12, 9, channels)
