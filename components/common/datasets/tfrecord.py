"""Read TFRecord files of tf.train.Example without TensorFlow."""

from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..cli import BadInput

SMALL = 4096
"""Bytes up to which a feature is read with the others, wanted or not."""


def index_records(path: Path) -> np.ndarray:
    """Where the records of a TFRecord file lie, from their headers alone.

    Each stands as: length (8 bytes, little-endian), its checksum (4), the bytes, their checksum (4). See
    https://www.tensorflow.org/tutorials/load_data/tfrecord.

    Returns:
        int64, shape (records, 2): offset and length of the bytes.

    Raises:
        BadInput: the file ends inside a record.
    """
    found, at, end = [], 12, path.stat().st_size
    with path.open("rb") as file:
        while header := file.read(12):
            length = int.from_bytes(header[:8], "little")
            found.append((at, length))
            at += length + 16
            if at - 12 > end:
                raise BadInput(f"{path}: expected whole records, received a truncated file; fetch the data set again")
            file.seek(at - 12)
    return np.array(found, np.int64).reshape(-1, 2)


def read_features(file: BinaryIO, offset: int, length: int, small: bool = False) -> Any:
    """The features of the tf.train.Example in a record, by name.

    Args:
        file: Open for reading.
        offset: Where the record lies.
        length: Its bytes.
        small: Whether to leave out large features, images above all, and not to read them: to learn the labels of a
            large data set then takes a fraction of the time.

    Raises:
        google.protobuf.message.DecodeError: the record is damaged.
    """
    if not small or length <= SMALL:
        file.seek(offset)
        return example_class().FromString(file.read(length)).features.feature
    at, end, found = offset + _prefix(file, offset)[0], offset + length, []
    while at < end:
        before, size = _prefix(file, at)
        if size <= SMALL:
            file.seek(at)
            found.append(file.read(before + size))
        at += before + size
    return type(example_class()().features).FromString(b"".join(found)).feature


def _prefix(file: BinaryIO, at: int) -> tuple[int, int]:
    """Length of the tag and the length that stand before a field, and that length: 7 bits a byte, lowest first."""
    file.seek(at)
    size = 0
    for index, byte in enumerate(file.read(11)[1:]):
        size |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return index + 2, size
    from google.protobuf.message import DecodeError

    raise DecodeError("a length does not end")


@cache
def example_class() -> Any:
    """The message class tf.train.Example.

    Described here rather than imported: TensorFlow's costs seconds, and this wire format never changes. The descriptor
    pool is its own, so a TensorFlow in the same process is not disturbed.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    message = file.message_type.add

    message(name="BytesList").field.add(name="value", number=1, type=kinds.TYPE_BYTES, label=many)
    message(name="FloatList").field.add(name="value", number=1, type=kinds.TYPE_FLOAT, label=many)
    message(name="Int64List").field.add(name="value", number=1, type=kinds.TYPE_INT64, label=many)
    feature = message(name="Feature").field.add
    feature(name="bytes_list", number=1, type=kinds.TYPE_MESSAGE, label=one, type_name=".tensorflow.BytesList")
    feature(name="float_list", number=2, type=kinds.TYPE_MESSAGE, label=one, type_name=".tensorflow.FloatList")
    feature(name="int64_list", number=3, type=kinds.TYPE_MESSAGE, label=one, type_name=".tensorflow.Int64List")
    features = message(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")  # a map field is a list of such pairs on the wire
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=one)
    entry.field.add(name="value", number=2, type=kinds.TYPE_MESSAGE, label=one, type_name=".tensorflow.Feature")
    of_entries = ".tensorflow.Features.FeatureEntry"
    features.field.add(name="feature", number=1, type=kinds.TYPE_MESSAGE, label=many, type_name=of_entries)
    example = message(name="Example").field.add
    example(name="features", number=1, type=kinds.TYPE_MESSAGE, label=one, type_name=".tensorflow.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
