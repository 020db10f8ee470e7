"""The secret key's two uses: secrets at rest, and tokens that can be derived again."""

from __future__ import annotations

import base64
import hashlib
import hmac
from functools import cached_property
from typing import TYPE_CHECKING

from hodei.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet


class Vault:
    """Encrypts with ``HODEI_SECRET_KEY``. Any text will do as a key; 32 random bytes are what we make ourselves.

    The library that encrypts, 7 MB, is loaded with the first secret: most processes never see one.
    """

    def __init__(self, secret_key: str) -> None:
        if len(secret_key) < 16:
            raise ConfigurationError(
                "HODEI_SECRET_KEY is too short: use at least 16 characters, such as the output of: openssl rand -hex 32",
                field="HODEI_SECRET_KEY",
            )
        self._root = hashlib.sha256(b"hodei-secret-key:" + secret_key.encode()).digest()

    @cached_property
    def _fernet(self) -> Fernet:
        from cryptography.fernet import Fernet

        return Fernet(base64.urlsafe_b64encode(self._subkey("secrets-at-rest")))

    def _subkey(self, purpose: str) -> bytes:
        return hmac.new(self._root, purpose.encode(), hashlib.sha256).digest()

    def derive(self, purpose: str) -> str:
        """256 bits for this purpose, url-safe: always the same for the same key, unguessable without it."""
        return base64.urlsafe_b64encode(self._subkey("derive:" + purpose)).decode().rstrip("=")

    def encrypt(self, value: str) -> bytes:
        """Encrypt and authenticate (Fernet: AES-128-CBC with HMAC-SHA256)."""
        return self._fernet.encrypt(value.encode())

    def decrypt(self, ciphertext: bytes) -> str:
        """The value. Raises ConfigurationError when the key is another one than it was encrypted with."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(bytes(ciphertext)).decode()
        except InvalidToken:
            raise ConfigurationError(
                "A secret cannot be decrypted: HODEI_SECRET_KEY is not the one that it was stored with.",
                field="HODEI_SECRET_KEY",
            ) from None
