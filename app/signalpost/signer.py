"""The headers of an attempt: the endpoint's own, and the signatures in three formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from signalpost.core.extraheaders import with_extra
from signalpost.core.signing import Outgoing, secret_bytes, sign
from signalpost.core.targets import wire_target
from signalpost.errors import SecretError
from signalpost.repository.claimed import Claim
from signalpost.secretbox import SecretBox, unseal


class Signer:
    """Signs with the secrets that claims bring; what was decrypted once is remembered.

    Args:
        box: decrypts secrets and extra headers.
        wall: the time that is signed, UTC.
    """

    def __init__(self, box: SecretBox, *, wall: Callable[[], datetime]) -> None:
        self._box = box
        self._wall = wall
        self._keys: dict[tuple[int, bytes], bytes] = {}
        self._extras: dict[tuple[int, tuple[tuple[str, str], ...]], Mapping[str, str]] = {}

    def headers(self, claim: Claim) -> dict[str, str]:
        """All headers of this attempt, signed as of now.

        Raises:
            SecretError: the secret, or an extra header, cannot be decrypted.
            EndpointError: the URL is none that a request can be sent to.
        """
        return with_extra(self._extra(claim), self._signed(claim))

    def _signed(self, claim: Claim) -> dict[str, str]:
        authority, raw_path, query = wire_target(claim.url)
        outgoing = Outgoing(
            method="POST",
            authority=authority,
            raw_path=raw_path,
            query=query,
            body=claim.body,
            producer_id=claim.producer_id,
            delivery_id=str(claim.delivery_id),
            attempt=claim.attempt,
            expires_at=claim.expires_at,
            replayed=claim.replays > 0,
            sequence=claim.sequence,
            timestamp=self._wall(),
        )
        keys = [self._key(claim.endpoint_id, claim.secret_ciphertext)]
        key_ids = [f"{claim.endpoint}:{claim.secret_version}"]
        if claim.previous_secret_ciphertext is not None:
            keys.append(self._key(claim.endpoint_id, claim.previous_secret_ciphertext))
            key_ids.append(f"{claim.endpoint}:{claim.secret_version - 1}")
        return sign(outgoing, keys=keys, key_ids=key_ids)

    def _key(self, endpoint_id: int, ciphertext: bytes) -> bytes:
        name = (endpoint_id, ciphertext)
        key = self._keys.get(name)
        if key is None:
            try:
                secret = self._box.decrypt(ciphertext).decode("utf-8")
            except UnicodeDecodeError:
                raise SecretError("the stored secret is no text") from None
            key = self._keys[name] = secret_bytes(secret)
        return key

    def _extra(self, claim: Claim) -> Mapping[str, str]:
        if not claim.headers:
            return {}
        name = (claim.endpoint_id, tuple(claim.headers.items()))
        if name not in self._extras:
            self._extras[name] = unseal(claim.headers, self._box)
        return self._extras[name]
