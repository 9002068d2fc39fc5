"""Trainyard: five reusable pipeline components, from a data set to a live prediction endpoint."""
