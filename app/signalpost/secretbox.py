"""Endpoint secrets at rest: encrypted by the first of SECRET_KEYS, decrypted by any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from signalpost.errors import SecretError

__all__ = ["SecretBox", "seal", "unseal"]


class SecretBox:
    """Encrypts and decrypts with Fernet keys (32 bytes in URL-safe base64; AES-128 and HMAC).

    Without any key it can be made, so that a start does not fail where no secret is needed, but
    neither encrypts nor decrypts. Raises SecretError for a malformed key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernets = [Fernet(key) for key in keys]
        except ValueError:
            raise SecretError(
                "SECRET_KEYS: each key must be 32 bytes in URL-safe base64 (44 characters)"
            ) from None
        self._all = MultiFernet(self._fernets) if self._fernets else None

    @staticmethod
    def new_key() -> str:
        """A new random key for SECRET_KEYS."""
        return Fernet.generate_key().decode("ascii")

    @property
    def has_keys(self) -> bool:
        """Whether it can encrypt and decrypt at all."""
        return self._all is not None

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

    def renewed(self, ciphertext: bytes) -> bytes | None:
        """The same secret, encrypted with the first key; None where it is so already.

        Raises SecretError where no key fits.
        """
        plain = self.decrypt(ciphertext)
        try:
            self._fernets[0].decrypt(ciphertext)
        except InvalidToken:
            return self.encrypt(plain)
        return None

    def _open(self) -> MultiFernet:
        if self._all is None:
            raise SecretError(
                "SECRET_KEYS is not set, so endpoint secrets can be neither stored nor read; "
                "set it to the keys of this database"
            )
        return self._all


def seal(headers: Mapping[str, str], box: SecretBox) -> dict[str, str]:
    """Extra headers as they are stored: names readable, values encrypted, for they may be keys."""
    return {name: box.encrypt(value.encode()).decode("ascii") for name, value in headers.items()}


def unseal(headers: Mapping[str, str], box: SecretBox) -> dict[str, str]:
    """What `seal` was given. Raises SecretError where no key fits, or where it is no text."""
    try:
        return {name: box.decrypt(value.encode()).decode() for name, value in headers.items()}
    except (UnicodeError, AttributeError):
        raise SecretError("an endpoint's stored extra header is no text") from None
