"""Image-classification data sets: one reader for each layout, and one decoder of images for all of them.

`open_dataset` finds out which layout a folder has. Nothing heavy is imported before it is called.
"""

from .dataset import ON_CORRUPT, ImageDataset, Options, Split
from .opening import open_dataset
from .source import download_of, name_from

__all__ = ["ON_CORRUPT", "ImageDataset", "Options", "Split", "download_of", "name_from", "open_dataset"]
