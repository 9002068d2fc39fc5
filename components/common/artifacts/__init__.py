"""What passes between the steps: the model folder, the evaluation and the published version."""
