"""The model server: HTTP in front, a thread for each version behind it."""
