"""Access tokens: shaped like the service's JWTs, valid because this emulator remembers having made them."""

from __future__ import annotations

import base64
import json
import secrets
import time
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["TokenMint"]


class TokenMint:
    """Makes tokens, each a new identity, and knows which of them still live."""

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self.minted = 0
        self._expires_at: dict[str, float | None] = {}

    def mint(self, oddities: Collection[str] = ()) -> str:
        """A new token; ``oddities`` are names of ``token.*`` faults."""
        now = time.time()
        expires_at: float | None = now - 60 if "token.expired" in oddities else now + self.lifetime
        claims: dict[str, Any] = {"sub": str(uuid.uuid4()), "iat": int(now), "exp": int(now + self.lifetime)}
        if "token.expired" in oddities:
            claims["exp"] = int(now - 60)
        if "token.float_exp" in oddities:
            claims["exp"] = claims["exp"] + 0.5
        if "token.no_exp" in oddities:
            del claims["exp"]
            expires_at = None
        token = f"{_part({'alg': 'RS256', 'typ': 'JWT'})}.{_part(claims)}.{secrets.token_urlsafe(32)}"
        if "token.not_jwt" in oddities:
            token = secrets.token_urlsafe(32)
        self._expires_at[token] = expires_at
        self.minted += 1
        return token

    def valid(self, token: str) -> bool:
        """Was it made here, and is it not expired?"""
        if token not in self._expires_at:
            return False
        expires_at = self._expires_at[token]
        return expires_at is None or time.time() < expires_at

    def revoke_all(self) -> None:
        """Let every token be as good as expired."""
        self._expires_at.clear()


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
