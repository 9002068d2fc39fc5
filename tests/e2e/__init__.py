"""The serve step on a real cluster: whichever KUBECONFIG names, with KServe in it (docs/testing.md)."""
