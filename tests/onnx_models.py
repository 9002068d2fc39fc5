"""Small ONNX models for the tests, and what NumPy makes of their weights."""

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper

MEAN, STD = 0.13, 0.31


class Network:
    """A 3 x 3 convolution of random filters, ReLU, and a layer that was fitted to labels."""

    def __init__(self, images, labels, classes=10, filters=4):
        random = np.random.default_rng(0)
        self.kernel = random.normal(0, 0.5, (filters, images.shape[3], 3, 3)).astype(np.float32)
        features = self._features(images)
        wanted = 12 * np.eye(classes, dtype=np.float32)[labels] - 6
        gram = features.T @ features + 30 * np.eye(features.shape[1], dtype=np.float32)
        self.weights = np.linalg.solve(gram, features.T @ wanted).astype(np.float32)
        self.bias = random.normal(0, 0.1, classes).astype(np.float32)
        self.shape = images.shape[1:]

    def _features(self, images):
        pixels = ((images.astype(np.float32) / 255) - MEAN) / STD
        windows = sliding_window_view(pixels, (3, 3), axis=(1, 2))[:, ::2, ::2]
        return np.maximum(np.einsum("nhwcij,fcij->nfhw", windows, self.kernel), 0).reshape(len(images), -1)

    def probabilities(self, images):
        """The answers, in NumPy."""
        logits = self._features(images) @ self.weights + self.bias
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    @property
    def parameters(self):
        return self.kernel.size + self.weights.size + self.bias.size

    def save(self, path, layout="NCHW", answers="logits", batch="images", opset=17, dtype=TensorProto.FLOAT):
        """Write it as an ONNX file that takes images as mean and deviation left them."""
        height, width, channels = self.shape
        sizes = (channels, height, width) if layout == "NCHW" else (height, width, channels)
        nodes = [helper.make_node("Transpose", ["input"], ["turned"], perm=[0, 3, 1, 2])] if layout == "NHWC" else []
        first = "turned" if nodes else "input"
        nodes += [
            helper.make_node("Conv", [first, "kernel"], ["seen"], strides=[2, 2]),
            helper.make_node("Relu", ["seen"], ["kept"]),
            helper.make_node("Flatten", ["kept"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        ]
        if answers == "probabilities":
            nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
        self.write(path, nodes, [("input", dtype, [batch, *sizes])], answers, opset)

    def save_two(self, path):
        """Write it with what its last layer gets as a first output, and the logits as a second one."""
        height, width, channels = self.shape
        nodes = [
            helper.make_node("Conv", ["input", "kernel"], ["seen"], strides=[2, 2]),
            helper.make_node("Relu", ["seen"], ["kept"]),
            helper.make_node("Flatten", ["kept"], ["features"]),
            helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"]),
        ]
        images = ("input", TensorProto.FLOAT, ["images", channels, height, width])
        self.write(path, nodes, [images], "logits", before=[("features", len(self.weights))])

    def write(self, path, nodes, inputs, output, opset=17, before=()):
        weights = [numpy_helper.from_array(getattr(self, name), name) for name in ("kernel", "weights", "bias")]
        takes = [helper.make_tensor_value_info(*one) for one in inputs]
        sizes = [*before, (output, len(self.bias))]
        gives = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, size]) for name, size in sizes]
        graph = helper.make_graph(nodes, "net", takes, gives, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.save(model, path)


class Regression:
    """A logistic regression as skl2onnx writes it: rows of numbers to labels and probabilities."""

    def __init__(self, shape, classes=3):
        random = np.random.default_rng(0)
        self.shape = shape
        self.weights = random.normal(0, 0.001, (classes, int(np.prod(shape)))).astype(np.float32)
        self.bias = random.normal(0, 0.1, classes).astype(np.float32)

    def probabilities(self, images):
        """The answers, in NumPy."""
        logits = images.reshape(len(images), -1).astype(np.float32) @ self.weights.T + self.bias
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    def save(self, path, zipmap=False):
        """Write it; `zipmap` is skl2onnx's default, a dictionary for each image."""
        labels = list(range(len(self.bias)))
        learned = {"coefficients": self.weights.ravel().tolist(), "intercepts": self.bias.tolist()}
        operators = "ai.onnx.ml"
        nodes = [
            helper.make_node(
                *("LinearClassifier", ["X"], ["label", "scores"]),
                domain=operators,
                classlabels_ints=labels,
                multi_class=1,
                post_transform="SOFTMAX",
                **learned,
            )
        ]
        takes = helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, self.weights.shape[1]])
        label = helper.make_tensor_value_info("label", TensorProto.INT64, [None])
        answers = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, len(labels)])
        if zipmap:
            nodes.append(
                helper.make_node("ZipMap", ["scores"], ["mapped"], domain=operators, classlabels_int64s=labels)
            )
            numbers = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
            each = helper.make_map_type_proto(TensorProto.INT64, numbers)
            answers = helper.make_value_info("mapped", helper.make_sequence_type_proto(each))
        graph = helper.make_graph(nodes, "regression", [takes], [label, answers])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(operators, 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
