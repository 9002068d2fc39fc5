"""Read TFRecord files of tf.train.Example without TensorFlow."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from components.common.cli import BadInput


def records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file, one after another.

    Each stands as: length (8 bytes, little-endian), its checksum (4), the bytes, their checksum (4). See
    https://www.tensorflow.org/tutorials/load_data/tfrecord.

    Raises:
        BadInput: the file ends inside a record.
    """
    with path.open("rb") as file:
        while header := file.read(12):
            length = int.from_bytes(header[:8], "little")
            record = file.read(length)
            if len(record) < length or len(file.read(4)) < 4:
                raise BadInput(f"{path}: expected whole records, received a truncated file; fetch the data set again")
            yield record


@cache
def example_class() -> Any:
    """The message class tf.train.Example, as far as images and labels need it.

    Described here rather than imported: TensorFlow's costs seconds, and this wire format never changes. The descriptor
    pool is its own, so a TensorFlow in the same process is not disturbed.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    message = file.message_type.add

    message(name="BytesList").field.add(name="value", number=1, type=kinds.TYPE_BYTES, label=many)
    message(name="Int64List").field.add(name="value", number=1, type=kinds.TYPE_INT64, label=many)
    feature = message(name="Feature").field.add
    feature(name="bytes_list", number=1, type=kinds.TYPE_MESSAGE, label=one, type_name=".tensorflow.BytesList")
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
