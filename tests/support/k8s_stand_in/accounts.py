"""Who asks: named accounts and the bearer tokens that stand for them."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from typing import Any

ADMIN = "stand-in-admin"
MASTERS = "system:masters"


@dataclass(frozen=True)
class User:
    name: str
    groups: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        return {"username": self.name, "groups": list(self.groups)}


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def service_account(namespace: str, name: str) -> User:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return User(f"system:serviceaccount:{namespace}:{name}", groups)


@dataclass
class Accounts:
    """The tokens in force. A token is given out once for each account, until it is revoked."""

    _users: dict[str, User] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def token(self, user: User) -> str:
        """A token for the account: the one there is, else a new one."""
        with self._lock:
            for token, known in self._users.items():
                if known == user:
                    return token
            token = secrets.token_urlsafe(32)
            self._users[token] = user
            return token

    def revoke(self, user: User) -> None:
        """From now on its token gets 401; the next that is asked for is another."""
        with self._lock:
            self._users = {token: known for token, known in self._users.items() if known != user}

    def user_of(self, authorization: str) -> User | None:
        """Whose request this is; None for a token that is not in force."""
        if not authorization:
            return ANONYMOUS
        scheme, _, token = authorization.partition(" ")
        with self._lock:
            return self._users.get(token.strip()) if scheme.lower() == "bearer" else None


def admin() -> User:
    return User(ADMIN, (MASTERS, "system:authenticated"))
