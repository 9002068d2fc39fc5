"""Kubernetes itself: one node that is its own control plane, with containerd and DNS."""

import json
import secrets
import subprocess
from pathlib import Path

import yaml

from .network import BRIDGE, NODE_ADDRESS, PODS, SERVICES, Network, wait_for
from .programs import plugins_folder

API = "https://127.0.0.1:6443"
API_SERVICE = "10.96.0.1"
NAME = "node"
SANDBOX_IMAGE = "docker.io/trainyard/sandbox:cluster"
KSERVE_ACCOUNT = "system:serviceaccount:kserve:kserve-controller-manager"


class Node:
    """The node, with its state below one folder."""

    def __init__(self, state: Path, network: Network) -> None:
        self._state, self._network = state, network
        self.programs = state / "bin"
        self.certificate = state / "certificate.pem"
        self.key = state / "key.pem"
        self.kubeconfig = state / "kubeconfig"
        self.kserve_kubeconfig = state / "kserve.kubeconfig"
        self._tokens = state / "tokens.csv"
        self._socket = state / "containerd.sock"

    def start(self) -> None:
        """Start everything and wait until the node is ready."""
        self._make_credentials()
        self._run("etcd", **self._etcd())
        self.start_api()
        manager = {"service-account-private-key-file": self.key, "root-ca-file": self.certificate}
        self._run("kube-controller-manager", kubeconfig=self.kubeconfig, leader_elect=False, **manager)
        self._run("kube-scheduler", kubeconfig=self.kubeconfig, leader_elect=False)
        self._start_containerd()
        self._start_kubelet()
        self._start_proxy()
        self._start_dns()

    def start_api(self) -> None:
        """Start the API server and wait until it answers; on a running cluster, after it was killed."""
        self._run("kube-apiserver", **self._apiserver())
        wait_for("the API server", self._api_answers, self._network.logs / "kube-apiserver")

    def kubectl(self, *arguments: str, manifest: str | None = None) -> str:
        """Run kubectl; what it wrote to stdout."""
        command = [self.programs / "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(
            self._network.inside(command), input=manifest, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)} failed ({done.stderr.strip()})")
        return done.stdout

    def apply(self, *objects: dict) -> None:
        """Create objects, or bring them up to date."""
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", manifest=json.dumps(listed))

    def define(self, *definitions: dict) -> None:
        """Create CustomResourceDefinitions, and wait until the API serves them."""
        self.apply(*definitions)

        def established() -> bool:
            try:
                return bool(self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"))
            except RuntimeError:  # kubectl does not wait for one that has no status at all yet
                return False

        wait_for("the custom resources", established, self._network.logs / "kube-apiserver")

    def import_images(self, *names: str, docker: str) -> None:
        """Bring images from a container engine into the node."""
        with subprocess.Popen([docker, "save", *names], stdout=subprocess.PIPE) as saved:
            subprocess.run(self._ctr("images", "import", "-"), stdin=saved.stdout, check=True, capture_output=True)

    def wait_until_ready(self) -> None:
        """Wait until pods can be scheduled."""

        def ready() -> bool:
            nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
            return any(
                one["type"] == "Ready" and one["status"] == "True"
                for node in nodes
                for one in node["status"]["conditions"]
            )

        wait_for("the node", ready, self._network.logs / "kubelet")

    def end_pods(self) -> None:
        """Kill what runs in pods; the kubelet, which would start it again, first."""
        self._network.kill("kubelet")
        if not any(self._network.processes("containerd")):
            return
        listed = subprocess.run(self._ctr("tasks", "list", "-q"), capture_output=True, text=True, check=False)
        for task in listed.stdout.split():
            subprocess.run(self._ctr("tasks", "rm", "--force", task), capture_output=True, check=False)

    def _ctr(self, *arguments: str) -> list[str]:
        return self._network.inside(["ctr", f"--address={self._socket}", "--namespace=k8s.io", *arguments])

    def _run(self, program: str, environment: dict[str, str] | None = None, **flags: object) -> None:
        """Start a program with flags, `_` in their names standing for `-`."""
        words = {name.replace("_", "-"): value for name, value in flags.items()}
        options = [
            f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in words.items()
        ]
        self._network.start(program, [self.programs / program, *options], environment)

    def _make_credentials(self) -> None:
        """One self-signed certificate for all that speaks TLS, one key for service accounts, and two users."""
        names = f"DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:{API_SERVICE},IP:{NODE_ADDRESS}"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days=30", "-subj=/CN=trainyard"]
        files = ["-keyout", self.key, "-out", self.certificate]
        subprocess.run([*command, "-addext", f"subjectAltName={names}", *files], check=True, capture_output=True)
        admin, kserve = secrets.token_hex(16), secrets.token_hex(16)
        self._tokens.touch(mode=0o600)
        self._tokens.write_text(
            f'{admin},admin,1,system:masters\n{kserve},{KSERVE_ACCOUNT},2,"system:serviceaccounts"\n'
        )
        for file, token in ((self.kubeconfig, admin), (self.kserve_kubeconfig, kserve)):
            file.touch(mode=0o600)
            file.write_text(yaml.safe_dump(kubeconfig(self.certificate, token)))

    def _etcd(self) -> dict[str, object]:
        url = "http://127.0.0.1:2379"
        urls = {"listen-client-urls": url, "advertise-client-urls": url, "listen-peer-urls": "http://127.0.0.1:2380"}
        return {"data-dir": self._state / "etcd", "unsafe-no-fsync": True, **urls}

    def _apiserver(self) -> dict[str, object]:
        return {
            "etcd-servers": "http://127.0.0.1:2379",
            "advertise-address": NODE_ADDRESS,
            "service-cluster-ip-range": SERVICES,
            "authorization-mode": "RBAC",
            "token-auth-file": self._tokens,
            "tls-cert-file": self.certificate,
            "tls-private-key-file": self.key,
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": self.key,
            "service-account-signing-key-file": self.key,
            "kubelet-preferred-address-types": "InternalIP",
            "allow-privileged": True,
            "shutdown-delay-duration": "0s",
        }

    def _api_answers(self) -> bool:
        try:
            return self.kubectl("get", "--raw", "/readyz") == "ok"
        except RuntimeError:
            return False

    def _start_containerd(self) -> None:
        plugins = self._state / "cni"
        plugins.mkdir()
        addresses = {
            "type": "host-local",
            "subnet": PODS,
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(self._state / "addresses"),
        }
        bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "hairpinMode": True, "ipam": addresses}
        conflist = {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}
        (plugins / "pods.conflist").write_text(json.dumps(conflist))
        config = self._state / "containerd.toml"
        config.write_text(
            CONTAINERD.format(
                state=self._state, socket=self._socket, image=SANDBOX_IMAGE, plugins=plugins_folder(), networks=plugins
            )
        )
        self._network.start("containerd", ["containerd", f"--config={config}"])
        log = self._network.logs / "containerd"
        wait_for("containerd", lambda: subprocess.run(self._ctr("version"), capture_output=True).returncode == 0, log)

    def _start_kubelet(self) -> None:
        resolv = self._state / "resolv.conf"
        resolv.write_text("")
        config = self._state / "kubelet.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "kubelet.config.k8s.io/v1beta1",
                    "kind": "KubeletConfiguration",
                    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
                    "authorization": {"mode": "AlwaysAllow"},
                    "containerRuntimeEndpoint": f"unix://{self._socket}",
                    "clusterDNS": [NODE_ADDRESS],
                    "clusterDomain": "cluster.local",
                    "resolvConf": str(resolv),
                    "podLogsDir": str(self._state / "pods"),
                    "maxPods": 100,
                    # what a machine without systemd, with swap or with the older control groups needs
                    "cgroupDriver": "cgroupfs",
                    "cgroupsPerQOS": False,
                    "enforceNodeAllocatable": [],
                    "failCgroupV1": False,
                    "failSwapOn": False,
                    # the disk is the machine's, and not this cluster's to tidy
                    "imageGCHighThresholdPercent": 100,
                    "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
                }
            )
        )
        folder = self._state / "kubelet"
        certificates = {"cert-dir": folder / "pki", "root-dir": folder}
        self._run(
            "kubelet",
            config=config,
            kubeconfig=self.kubeconfig,
            hostname_override=NAME,
            node_ip=NODE_ADDRESS,
            **certificates,
        )

    def _start_proxy(self) -> None:
        # the limits of connections are the machine's, and cannot be set from a network namespace
        limits = {"conntrack-max-per-core": 0, "conntrack-min": 0}
        timeouts = {"conntrack-tcp-timeout-established": "0s", "conntrack-tcp-timeout-close-wait": "0s"}
        names = {"hostname-override": NAME, "cluster-cidr": PODS}
        # a pod that reaches another through a Service has to get its answers through the node too
        self._run("kube-proxy", kubeconfig=self.kubeconfig, masquerade_all=True, **limits, **timeouts, **names)

    def _start_dns(self) -> None:
        corefile = self._state / "Corefile"
        corefile.write_text(
            f"cluster.local {{\n bind {NODE_ADDRESS}\n errors\n kubernetes cluster.local {{\n"
            f"  kubeconfig {self.kubeconfig}\n  ttl 1\n }}\n}}\n"
        )
        self._network.start("coredns", [self.programs / "coredns", "-conf", corefile])


def kubeconfig(certificate: Path, token: str) -> dict:
    """A kubeconfig of one user."""
    cluster = {"server": API, "certificate-authority": str(certificate)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "trainyard", "cluster": cluster}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "trainyard", "context": {"cluster": "trainyard", "user": "user"}}],
        "current-context": "trainyard",
    }


CONTAINERD = """\
version = 2
root = "{state}/containerd"
state = "{state}/containerd.state"
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{state}/containerd.opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true # not every root may lower it
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{networks}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""
