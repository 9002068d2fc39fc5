"""The metrics of a data set by name."""

KINDS = {
    "leaked_test_images": "Leakage: test images that are copies of training or validation images",
    "leaked_validation_images": "Leakage: validation images that are copies of training images",
    "conflicting_labels": "Copies of one image with different labels",
    "damaged_images": "Images that cannot be decoded",
    "exact_duplicates": "Images that equal an earlier one of their split",
    "near_duplicates": "Images that are almost equal to an earlier one of their split",
    "blank_images": "Images of one colour",
    "dark_images": "Images without a bright pixel",
    "tiny_images": "Images too small to show anything",
    "empty_classes": "Classes without training images",
    "untested_classes": "Classes without test images",
}
"""Kinds of findings, each by the metric that counts it, and what it is. The gravest first."""
NUMBERS = ("images", "classes", "smallest_class", "class_imbalance", "image_sizes")
"""Further metrics."""
DRIFT = tuple(f"{subject}_drift{what}" for subject in ("class", "brightness", "size") for what in ("", "_p_value"))
"""Metrics that need a baseline."""
KNOWN = (*KINDS, *NUMBERS, *DRIFT)
MORE_IS_BETTER = frozenset({"images", "classes", "smallest_class", *(name for name in DRIFT if "p_value" in name)})
