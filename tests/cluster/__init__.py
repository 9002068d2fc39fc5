"""A one-node Kubernetes cluster with KServe on this machine, made from package registries alone (docs/testing.md).

    network namespace of its own
    ├── etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy    node.py
    ├── coredns, containerd with its pods behind one bridge
    ├── kserve-manager, traefik (Gateway API)                                                  serving.py
    ├── weed (the object store)
    └── in pods: Knative Serving, on request                                                   knative.py

`python -m tests.cluster start [--knative]`, `... stop`, and `... run COMMAND` for a command that sees it.
"""
