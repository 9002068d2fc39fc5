"""Trainyard: reusable pipeline components, from an image data set to a live prediction endpoint."""
