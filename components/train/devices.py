"""Train on one device, on all GPUs of this machine, or on several workers.

Keras 3's own `fit` does not support several workers. A training loop of one's own does: `tf.distribute` mirrors the
variables, Keras's optimizers add the replicas' gradients up, and each replica takes its share of every batch.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..common.cli import BadInput
from . import indexed_job
from .architectures import every_layer

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf


@dataclass(frozen=True)
class Workers:
    """The workers of a training, as `TF_CONFIG` tells them, or else the Indexed Job that this pod belongs to.

    https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable

    Attributes:
        count: How many there are, this one included.
        chief: Whether this one is the chief, who writes.
    """

    count: int
    chief: bool

    @classmethod
    def from_environment(cls) -> Workers:
        """One worker alone, if neither is there. TensorFlow reads `TF_CONFIG` itself: it is set for an Indexed Job.

        Raises:
            BadInput: it is not as TensorFlow describes it, or this process is neither chief nor worker.
        """
        config = os.environ.get("TF_CONFIG", "") or indexed_job.tf_config()
        if not config:
            return cls(1, chief=True)
        os.environ["TF_CONFIG"] = config
        try:
            told = json.loads(config)
            cluster, task = told.get("cluster", {}), told.get("task", {})
            chiefs, workers = len(cluster.get("chief", [])), len(cluster.get("worker", []))
            kind, index = task.get("type", "worker"), int(task.get("index", 0))
        except (ValueError, TypeError, AttributeError):
            raise BadInput(
                "TF_CONFIG: expected JSON with 'cluster' and 'task', received something else; unset it to train alone"
            ) from None
        if kind not in ("chief", "worker") or not index < {"chief": chiefs, "worker": workers}[kind]:
            raise BadInput(
                f"TF_CONFIG: expected a task of its cluster, chief or worker, received {kind} {index} of "
                f"{chiefs} chiefs and {workers} workers; give train only to these"
            )
        return cls(chiefs + workers, chief=kind == "chief" or (not chiefs and index == 0))


def strategy(workers: Workers) -> tf.distribute.Strategy:
    """How to spread training: over the workers, over this machine's GPUs when there are several, or not at all."""
    import tensorflow as tf

    if workers.count > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def columns_here(spread: tf.distribute.Strategy, width: int) -> slice:
    """Of a batch of `width` images (a multiple of the replicas), those that this worker's replicas take."""
    if spread.num_replicas_in_sync == 1:
        return slice(0, width)
    each = width // spread.num_replicas_in_sync
    ids = spread.experimental_local_results(
        spread.experimental_distribute_values_from_function(lambda context: context.replica_id_in_sync_group)
    )
    return slice(each * int(min(ids)), each * (int(max(ids)) + 1))


def on_each_device(spread: tf.distribute.Strategy, array: object) -> tf.Tensor:
    """A constant on every device of this worker, so that no replica fetches it from another."""
    import tensorflow as tf

    if spread.num_replicas_in_sync == 1:
        return tf.constant(array)
    devices = iter(spread.extended.worker_devices)

    def place(context: object) -> tf.Tensor:
        with tf.device(next(devices)):
            return tf.constant(array)

    return spread.experimental_distribute_values_from_function(place)


def share_batch_statistics(model: keras.Model) -> None:
    """Let batch normalisation look at the whole batch, not only at a replica's share of it."""
    import keras

    for layer in every_layer(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def plain_copy(model: keras.Model, weights: list[np.ndarray]) -> keras.Model:
    """A model with these weights that knows nothing of other devices."""
    import keras

    copy = keras.models.clone_model(model)
    copy.set_weights(weights)
    for layer in every_layer(copy):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = False
    return copy


def told_by_all(spread: tf.distribute.Strategy, value: float) -> list[float]:
    """What each replica passes, the same list for all of them."""
    import tensorflow as tf

    replicas = spread.num_replicas_in_sync

    def mine() -> tf.Tensor:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.one_hot(replica, replicas, tf.constant(value, tf.float64), dtype=tf.float64)

    def gathered() -> tf.Tensor:
        return spread.reduce("SUM", spread.run(mine), axis=None)

    told: list[float] = tf.function(gathered, autograph=False)().numpy().tolist()
    return told


def wait_for_all(spread: tf.distribute.Strategy) -> None:
    """Wait until every worker has come here: one that leaves early is taken for lost by the others."""
    told_by_all(spread, 0)


def check_agreement(spread: tf.distribute.Strategy, identity: str, epochs: int) -> None:
    """Make sure that all workers train the same from the same epoch on.

    Args:
        spread: From `strategy`.
        identity: Names hyper-parameters and data set.
        epochs: How many a checkpoint holds.

    Raises:
        BadInput: they do not.
    """
    if len(set(told_by_all(spread, zlib.crc32(f"{identity} {epochs}".encode())))) > 1:
        raise BadInput(
            "TF_CONFIG: expected all workers to train the same, received others with different options, data or "
            "checkpoint; start all with the same command, --model on a volume that they share"
        )
