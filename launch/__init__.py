"""The ways to run a pipeline: processes on this machine, and a Kubeflow Pipelines cluster."""
