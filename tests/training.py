"""Training in the test's own process, where TensorFlow is loaded once."""

import numpy as np


def npz(folder, images, labels):
    """A data set folder whose splits are both these images."""
    folder.mkdir()
    np.savez(folder / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    return folder


def train_here(dataset, model, say=lambda line: None, about=None, tensorboard=None, memory_budget=0, **chosen):
    """Train in this process; the lines that it says."""
    from trainyard.components.common.artifacts.model import About
    from trainyard.components.common.progress import Progress
    from trainyard.components.train.hyperparameters import Hyperparameters
    from trainyard.components.train.run import Training

    lines = []

    class Told(Progress):
        def say(self, text):
            lines.append(text)
            say(text)

    progress = Told("train")
    Training(dataset, Hyperparameters(**chosen), model, about or About(), progress, memory_budget, tensorboard).run()
    return "\n".join(lines)


def weights(model):
    """Those of a model folder."""
    import keras

    return keras.models.load_model(model / "model.keras").get_weights()
