"""Kubeflow Pipelines from a laptop or from CI: connect, submit, follow, schedule."""
