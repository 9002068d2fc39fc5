"""Data sets of encoded images, each on its own in a file or a record."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import suppress

import numpy as np

from .dataset import ImageDataset, Options
from .decoding import DamagedImage, decode_images, image_shape, image_size, read_image, scaled_down

ENCODED_AT_ONCE = 16 * 2**20
"""Bytes of encoded images that are held at once while they are decoded."""

Example = tuple[int, bytes, int]
"""An image's position among those that were asked for, the encoded image, and its label."""


class EncodedDataset(ImageDataset):
    """A data set of PNG or JPEG files, each on its own in a file or a record."""

    @abstractmethod
    def _examples(self, split: str, places: np.ndarray) -> Iterator[Example]:
        """The examples at these places, in the order that is quickest."""

    def encoded(self, split: str, places: np.ndarray) -> Iterator[tuple[list[int], list[bytes]]]:
        """The image files at places of a split, damaged ones too: some places and their files at a time."""
        for positions, encoded, _ in _groups(self._examples(self._stored_in[split], places)):
            yield places[positions].tolist(), encoded

    def of_one_size(self) -> bool:
        """See `ImageDataset.of_one_size`."""
        for split, count in self._on_disk.items():
            for place, content, _ in self._examples(split, np.arange(count)):
                with suppress(DamagedImage):
                    if image_size(content, self._name_of(split, place)) != self.image_shape[:2]:
                        return False
        return True

    def pictures(self, split: str, indices: np.ndarray, side: int) -> list[np.ndarray]:
        """See `ImageDataset.pictures`."""
        stored, places = self._stored_in[split], self.places(split)[indices]
        found: dict[int, np.ndarray] = {}
        for position, content, _ in self._examples(stored, places):
            name = self._name_of(stored, int(places[position]))
            image = np.asarray(read_image(content, name, self.image_shape[2], (side, side)))
            found[position] = scaled_down(image.reshape(*image.shape[:2], -1), side)
        return [found[position] for position in range(len(places))]

    def _read(self, split: str, places: np.ndarray, damaged: list[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        images = np.empty((len(places), *self.image_shape), np.uint8)
        labels = np.empty(len(places), np.int64)
        for positions, encoded, of_them in _groups(self._examples(split, places)):
            labels[positions] = of_them
            found: list[int] = []
            images[positions] = self._decoded(split, places[positions], encoded, None if damaged is None else found)
            if damaged is not None:
                damaged += [positions[index] for index in found]
        return images, labels

    def _damaged(self, split: str) -> list[int]:
        found: list[int] = []
        for positions, encoded, _ in _groups(self._examples(split, np.arange(self._on_disk[split]))):
            damaged: list[int] = []
            self._decoded(split, np.array(positions), encoded, damaged)
            found += [positions[index] for index in damaged]
        return sorted(found)

    def _decoded(
        self, split: str, places: np.ndarray, encoded: list[bytes], damaged: list[int] | None = None
    ) -> np.ndarray:
        return decode_images(
            encoded,
            self.image_shape,
            lambda index: self._address(split, int(places[index])),
            resize=self.options.image_size is not None,
            damaged=damaged,
        )

    def _address(self, split: str, place: int) -> str:
        """Where an image is, for messages."""
        return f"{self.folder}/{self._name_of(split, place)}"


def shape_of_first(images: Iterable[tuple[str, bytes]], options: Options) -> tuple[int, int, int] | None:
    """(height, width, channels) of the first image that is not damaged; None where there is none.

    Args:
        images: What to call each, and its encoded bytes.
        options: How damaged images are handled.

    Raises:
        DamagedImage: the first is damaged, and that is not to be skipped.
    """
    for name, content in images:
        try:
            return image_shape(content, name)
        except DamagedImage:
            if options.on_corrupt == "fail":
                raise
    return None


def _groups(examples: Iterable[Example]) -> Iterator[tuple[list[int], list[bytes], list[int]]]:
    """Positions, encoded images and labels of some examples at a time."""
    positions: list[int] = []
    encoded: list[bytes] = []
    labels: list[int] = []
    size = 0
    for position, content, label in examples:
        positions.append(position)
        encoded.append(content)
        labels.append(label)
        size += len(content)
        if size >= ENCODED_AT_ONCE:
            yield positions, encoded, labels
            positions, encoded, labels, size = [], [], [], 0
    if positions:
        yield positions, encoded, labels
