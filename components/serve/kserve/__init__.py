"""Serve on a cluster, as an InferenceService of KServe."""
