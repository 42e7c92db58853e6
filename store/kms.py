"""Master keys that AWS KMS holds: data keys are wrapped and unwrapped there, and nowhere else.

Needs the extra `kms`. Region, endpoint and credentials are boto3's own: `AWS_DEFAULT_REGION`,
`AWS_ENDPOINT_URL_KMS`, `AWS_PROFILE` and the rest. Each data key is bound to its owner by the
encryption context, which CloudTrail writes down: so it holds a digest, and the purpose in the clear
for key policies.
"""

import hashlib
import logging
from typing import Any

from store.masterkeys import (
    DoesNotOpen,
    MasterKeyRefused,
    MasterKeyUnavailable,
    RandomBytes,
    prove_by_use,
)

CONNECT_SECONDS = 2
ANSWER_SECONDS = 5
"""Some calls are made while an account's gate is held, so they end soon either way. KMS answers
within tens of milliseconds."""

CONNECTIONS = 64

_BROKEN = frozenset({"InvalidCiphertextException"})
_REFUSED = frozenset(
    {
        "AccessDeniedException",
        "DisabledException",
        "IncorrectKeyException",
        "InvalidArnException",
        "InvalidKeyUsageException",
        "KMSInvalidStateException",
        "NotFoundException",
        "ValidationException",
    }
)
"""What KMS says of the key rather than of the moment. An altered value may be answered so, too
(its head names the key it is under): it does not open either way."""


class KmsNotUsable(RuntimeError):
    """KMS cannot be used as this process is set up. The message says what to do."""


class KmsKey:
    """One KMS key as a master key; `name` is its ARN, its id, or an alias."""

    def __init__(self, master_key_id: str, name: str, client: Any) -> None:
        self._id = master_key_id
        self._name = name
        self._client = client

    def wrap(self, data_key: bytes, aad: bytes, nonce: bytes) -> bytes:  # noqa: ARG002 -- KMS makes its own
        """As `MasterKey.wrap`."""
        try:
            answer = self._client.encrypt(
                KeyId=self._name, Plaintext=data_key, EncryptionContext=encryption_context(aad)
            )
        except Exception as error:  # noqa: BLE001 -- botocore's errors have no one root
            # Also where KMS refuses: what is to be stored waits until the operator has mended that.
            raise MasterKeyUnavailable(self._id, error_code(error)) from None
        wrapped: bytes = answer["CiphertextBlob"]
        return wrapped

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """As `MasterKey.unwrap`."""
        if not wrapped:
            raise DoesNotOpen
        try:
            answer = self._client.decrypt(
                # Named, or else a value under any key that we may use would open, a stranger's too.
                KeyId=self._name,
                CiphertextBlob=wrapped,
                EncryptionContext=encryption_context(aad),
            )
        except Exception as error:  # noqa: BLE001 -- as above
            code = error_code(error)
            if code in _BROKEN:
                raise DoesNotOpen from None
            if code in _REFUSED:
                raise MasterKeyRefused(self._id, code) from None
            raise MasterKeyUnavailable(self._id, code) from None
        data_key: bytes = answer["Plaintext"]
        return data_key

    def prove(self, random_bytes: RandomBytes) -> None:
        """As `MasterKey.prove`: needs the permissions to encrypt and to decrypt."""
        prove_by_use(self, random_bytes)


def encryption_context(aad: bytes) -> dict[str, str]:
    """What KMS binds a data key to: the purpose, and the digest of everything in `aad`."""
    purpose = aad.partition(b"\n")[0].decode()
    return {"purpose": purpose, "bound-to-sha256": hashlib.sha256(aad).hexdigest()}


def error_code(error: BaseException) -> str:
    """KMS's own code of an error, or the error's kind. Never its text, which quotes requests."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return code if isinstance(code, str) and code else type(error).__name__


def open_client() -> Any:
    """A KMS client, to be shared by all threads. Raises `KmsNotUsable`."""
    try:
        import boto3  # noqa: PLC0415 -- an optional extra, and 0.2 s to import
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ImportError:
        raise KmsNotUsable(
            "BYOK_MASTER_KEYS names a KMS key, and boto3 is not installed: install byok-workers "
            "with its extra `kms`."
        ) from None
    for name in ("boto3", "botocore", "urllib3"):
        # At DEBUG they log requests and answers, and so the data keys themselves.
        logging.getLogger(name).setLevel(logging.WARNING)
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=ANSWER_SECONDS,
        # Whoever asks waits and asks again; here it would wait with a transaction open.
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
    )
    try:
        return boto3.client("kms", config=config)
    except (BotoCoreError, ValueError) as error:
        raise KmsNotUsable(
            f"BYOK_MASTER_KEYS names a KMS key, and boto3 is not set up for KMS "
            f"({type(error).__name__}): set AWS_DEFAULT_REGION and the credentials."
        ) from None
