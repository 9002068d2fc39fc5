"""deploy/: its overlays applied as the documentation says, with nothing but kubectl."""

import uuid

import pytest

from tests.conftest import PROJECT
from tests.test_deploy import ACCOUNTS


@pytest.mark.parametrize("overlay", ACCOUNTS)
def test_an_overlay_gives_the_account_of_the_runs_the_rights_of_serve_and_keeps_the_credentials(cluster, overlay):
    namespace = f"deploy-{uuid.uuid4().hex[:8]}"
    account, elsewhere = ACCOUNTS[overlay]
    cluster.kubectl("create", "namespace", namespace)
    try:
        secret = ["create", "secret", "generic", "model-store", "--from-literal=AWS_ACCESS_KEY_ID=trial"]
        cluster.kubectl(*secret, "-n", namespace)
        cluster.kubectl("apply", "-n", namespace, "-k", str(PROJECT / "deploy" / "overlays" / overlay))
        kept = cluster.kubectl("get", "secret", "model-store", "-n", namespace, "-o", "jsonpath={.data}")
        assert "AWS_ACCESS_KEY_ID" in kept
        runs_as = f"system:serviceaccount:{elsewhere or namespace}:{account}"
        for verb in ("create", "patch", "delete"):
            may = ["auth", "can-i", verb, "inferenceservices.serving.kserve.io", "-n", namespace, f"--as={runs_as}"]
            assert cluster.kubectl(*may).strip() == "yes"
        with pytest.raises(AssertionError, match="auth can-i get secrets"):  # kubectl's exit code for "no"
            cluster.kubectl("auth", "can-i", "get", "secrets", "-n", namespace, f"--as={runs_as}")
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
