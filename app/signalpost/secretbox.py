"""Endpoint secrets at rest: encrypted by the first of SECRET_KEYS, decrypted by any of them."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from signalpost.errors import SecretError

__all__ = ["SecretBox"]


class SecretBox:
    """Encrypts and decrypts with Fernet keys (32 bytes in URL-safe base64; AES-128 and HMAC).

    Without any key it can be made, so that a start does not fail where no secret is needed, but
    neither encrypts nor decrypts. Raises SecretError for a malformed key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            fernets = [Fernet(key) for key in keys]
        except ValueError:
            raise SecretError(
                "SECRET_KEYS: each key must be 32 bytes in URL-safe base64 (44 characters)"
            ) from None
        self._fernets = MultiFernet(fernets) if fernets else None

    @staticmethod
    def new_key() -> str:
        """A new random key for SECRET_KEYS."""
        return Fernet.generate_key().decode("ascii")

    def encrypt(self, plain: bytes) -> bytes:
        """`plain` encrypted with the first key. Raises SecretError where there is no key."""
        return self._open().encrypt(plain)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """What `encrypt` was given, with whichever key it was; SecretError where none fits."""
        try:
            return self._open().decrypt(ciphertext)
        except InvalidToken:
            raise SecretError(
                "a stored secret cannot be decrypted with any of SECRET_KEYS; "
                "add the key that it was encrypted with"
            ) from None

    def _open(self) -> MultiFernet:
        if self._fernets is None:
            raise SecretError(
                "SECRET_KEYS is not set, so endpoint secrets can be neither stored nor read; "
                "set it to the keys of this database"
            )
        return self._fernets
