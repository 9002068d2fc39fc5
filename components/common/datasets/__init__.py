"""Image-classification data sets: one reader for each layout, and one decoder of images for all of them."""
