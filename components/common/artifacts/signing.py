"""Signatures of published versions, in the format of OpenSSF Model Signing 1.0.

`model.sig` is a Sigstore bundle that holds a DSSE envelope over an in-toto statement, which names the SHA-256 of every
file of the version; `model_signing verify key` of the upstream package `model-signing` accepts it. That package is not
used here: it installs 70 MB with clients of services that a key file does not need. `cryptography` does the signing.

Format: https://github.com/ossf/model-signing-spec, https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cli import BadInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

SIGNATURE = "model.sig"
VERIFY_KEY = "TRAINYARD_VERIFY_KEY"
"""Environment variable by which a predictor gets public keys, as PEM."""
UNSIGNED = ("manifest.json", SIGNATURE)
"""Files of a version that its signature does not name: it binds name, version and digests as the manifest has them."""
AGAIN = "do not use it, and export the model again under another version"
"""Advice where a version is not what was signed."""
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
CURVES = ("secp256r1", "secp384r1", "secp521r1")


class SigningKey:
    """A private key."""

    def __init__(self, path: Path) -> None:
        """Read a key from a PEM file without a password.

        Raises:
            BadInput: there is none, or it is of another kind.
        """
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            self._key: ec.EllipticCurvePrivateKey = _elliptic(load_pem_private_key(path.read_bytes(), None))
        except (OSError, ValueError, TypeError) as error:
            raise _no_key("--signing-key", "a private key", path, error) from None

    def sign(self, name: str, version: int, digests: Mapping[str, str]) -> bytes:
        """The content of `model.sig`.

        Args:
            name: Of the model.
            version: 1 or more.
            digests: By path, SHA-256 of every file, in hexadecimal.
        """
        from cryptography.hazmat.primitives.asymmetric import ec

        payload = json.dumps(_statement(name, version, digests)).encode()
        public = self._key.public_key()
        signature = self._key.sign(_encoded(payload), ec.ECDSA(_hash(public)))
        bundle = {
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": _hint(public)}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": PAYLOAD,
                "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
            },
        }
        return json.dumps(bundle).encode()


class VerifyKeys:
    """Public keys, of which one has to have signed: several while keys are changed."""

    def __init__(self, given: str) -> None:
        """Read keys.

        Args:
            given: PEM files, comma-separated; or the content of such, as the predictor gets it.

        Raises:
            BadInput: there is none, or it is of another kind.
        """
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        self._keys: list[ec.EllipticCurvePublicKey] = []
        self.pem = ""
        """All of them, as PEM."""
        for one in _pems(given):
            try:
                content = one.encode() if one.startswith("-----") else Path(one).read_bytes()
                self._keys.append(_elliptic(load_pem_public_key(content)))
            except (OSError, ValueError, TypeError) as error:
                raise _no_key("--verify-key", "a public key", one[:60], error) from None
            self.pem += content.decode().strip() + "\n"

    def verify(self, signature: bytes | None, name: str, version: int, digests: Mapping[str, str], where: str) -> None:
        """Make sure that one of the keys signed these very files as this version.

        Args:
            signature: The content of `model.sig`; None: there is none.
            name: Of the model.
            version: 1 or more.
            digests: By path, SHA-256 of every file, in hexadecimal.
            where: What to call the version in messages.

        Raises:
            BadInput: the signature is missing or damaged, of another key, or of other files.
        """
        if signature is None:
            raise BadInput(
                f"{where}: expected a version signed with --signing-key, received one without {SIGNATURE}; export the "
                "same model again with a key"
            )
        try:
            statement = self._statement(signature, where)
            signed = {one["name"]: one["digest"] for one in statement["predicate"]["resources"]}
            subject = statement["subject"][0]["name"]
        except (ValueError, LookupError, TypeError):
            raise BadInput(
                f"{where}: expected a signature in {SIGNATURE}, received a damaged or other file; {AGAIN}"
            ) from None
        if subject != _subject(name, version):
            raise BadInput(
                f"{where}: expected the signature of {_subject(name, version)}, received that of {subject}; {AGAIN}"
            )
        if changed := sorted(path for path, _ in signed.items() ^ digests.items()):
            raise BadInput(
                f"{where}: expected the files that were signed, received {changed[0]} changed, added or removed; "
                f"{AGAIN}"
            )

    def _statement(self, signature: bytes, where: str) -> dict[str, Any]:
        """What was signed.

        Raises:
            BadInput: another key signed it.
            ValueError, LookupError, TypeError: it is no signature.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec

        envelope = json.loads(signature)["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signed = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        for key in self._keys:
            try:
                key.verify(signed, _encoded(payload), ec.ECDSA(_hash(key)))
            except InvalidSignature:
                continue
            statement: dict[str, Any] = json.loads(payload)
            kinds = envelope["payloadType"], statement["_type"], statement["predicateType"]
            if kinds != (PAYLOAD, STATEMENT, PREDICATE):
                raise ValueError("it is the signature of something else")
            return statement
        raise BadInput(
            f"{where}: expected a signature by a key of --verify-key, received one by another key or of other content; "
            "pass the public key of those who sign, or do not use this version"
        )


def _statement(name: str, version: int, digests: Mapping[str, str]) -> dict[str, Any]:
    """The in-toto statement: the digest of the whole is that of the files' digests one after another."""
    resources = [{"name": path, "algorithm": "sha256", "digest": digests[path]} for path in sorted(digests)]
    whole = hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in resources)).hexdigest()
    return {
        "_type": STATEMENT,
        "subject": [{"name": _subject(name, version), "digest": {"sha256": whole}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(UNSIGNED),
            },
            "resources": resources,
        },
    }


def _subject(name: str, version: int) -> str:
    return f"{name}/{version}"


def _encoded(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding, which is what is signed."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def _elliptic(key: Any) -> Any:
    """The key, if it is of a kind that the format knows.

    Raises:
        ValueError: it is not.
    """
    curve = getattr(getattr(key, "curve", None), "name", "no elliptic curve")
    if curve not in CURVES:
        raise ValueError(f"a key of {curve}")
    return key


def _hash(key: ec.EllipticCurvePublicKey) -> HashAlgorithm:
    """SHA-2 as long as the key."""
    from cryptography.hazmat.primitives import hashes

    return {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.curve.key_size]


def _hint(key: ec.EllipticCurvePublicKey) -> str:
    """What tells a public key in a signature."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _pems(given: str) -> list[str]:
    """Paths, or PEM blocks."""
    if given.lstrip().startswith("-----"):
        return [f"{part.strip()}\n-----END PUBLIC KEY-----" for part in given.split("-----END PUBLIC KEY-----")[:-1]]
    return [part.strip() for part in given.split(",") if part.strip()]


def _no_key(option: str, kind: str, path: object, error: Exception) -> BadInput:
    wrong = error.strerror if isinstance(error, OSError) else "another or an encrypted one"
    return BadInput(
        f"{option}: expected {kind} of P-256, P-384 or P-521 as a PEM file without a password, received {path} "
        f"({wrong})"
    )
