"""Make digits.npz from the UCI digits that scikit-learn carries: 8 x 8 pixels brought to 28 x 28, as MNIST has them.

    python examples/data/make_digits.py

The digits are enlarged to 20 x 20, framed with 4 empty pixels on each side and split by a fixed seed, a fifth of each
class for the test. README.md beside this file names their source and licence.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

OUTPUT = Path(__file__).with_name("digits.npz")


def main() -> None:
    """Write digits.npz beside this file."""
    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # the source counts 0 to 16
    images = np.zeros((len(grey), 28, 28), np.uint8)
    for image, small in zip(images, grey, strict=True):
        image[4:24, 4:24] = Image.fromarray(small).resize((20, 20), Image.Resampling.BICUBIC)
    x_train, x_test, y_train, y_test = train_test_split(
        images, digits.target.astype(np.uint8), test_size=360, random_state=0, stratify=digits.target
    )
    np.savez_compressed(OUTPUT, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


if __name__ == "__main__":
    main()
