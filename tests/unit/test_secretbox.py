from __future__ import annotations

import pytest

from signalpost.errors import SecretError
from signalpost.secretbox import SecretBox

PLAIN = b"correct horse battery staple"


def test_what_goes_in_comes_out() -> None:
    """A secret is what it was after a way through encryption, and is not readable between."""
    box = SecretBox([SecretBox.new_key()])
    sealed = box.encrypt(PLAIN)
    assert PLAIN not in sealed
    assert box.decrypt(sealed) == PLAIN


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    """After a new key was put in front, old secrets are readable and new ones need the new key."""
    old, new = SecretBox.new_key(), SecretBox.new_key()
    sealed_before = SecretBox([old]).encrypt(PLAIN)
    rotated = SecretBox([new, old])
    assert rotated.decrypt(sealed_before) == PLAIN
    assert SecretBox([new]).decrypt(rotated.encrypt(PLAIN)) == PLAIN


@pytest.mark.parametrize("damage", [b"", b"sealed", b"gAAAAA"])
def test_what_cannot_be_decrypted_is_a_secret_error(damage: bytes) -> None:
    """Damage and a foreign key are told as one error, which names the remedy and no secret."""
    box, foreign = SecretBox([SecretBox.new_key()]), SecretBox([SecretBox.new_key()])
    for sealed in (damage, foreign.encrypt(PLAIN)):
        with pytest.raises(SecretError, match="cannot be decrypted with any of SECRET_KEYS"):
            box.decrypt(sealed)


def test_a_malformed_key_is_told_without_being_shown() -> None:
    """A key that is none is named by its variable and its form, and not repeated."""
    for key in ("wonderland", "wonderland" * 5, "wünderland"):
        with pytest.raises(SecretError, match="SECRET_KEYS") as caught:
            SecretBox([key])
        assert key not in str(caught.value)


def test_without_keys_nothing_is_sealed_or_opened() -> None:
    """A box without keys can be made, and says what is missing as soon as it is needed."""
    box = SecretBox([])
    with pytest.raises(SecretError, match="SECRET_KEYS is not set"):
        box.encrypt(PLAIN)
    with pytest.raises(SecretError, match="SECRET_KEYS is not set"):
        box.decrypt(b"sealed")


def test_new_keys_differ() -> None:
    """Two new keys are never the same."""
    assert SecretBox.new_key() != SecretBox.new_key()
