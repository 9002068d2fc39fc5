"""The model server: HTTP in front, the versions of the model behind it."""
