"""The protocols of the model server: from the body of a request to images, and from probabilities to the answer."""
