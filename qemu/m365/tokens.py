"""Signing keys and signed tokens: issued by the identity provider, checked by the mail server."""

from __future__ import annotations

import base64
import hashlib
import random
import secrets
import uuid
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from jwt.types import Options

from qemu.m365.directory import EXCHANGE, App, Directory, User


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed_claims(token: str, key: RSAPublicKey, algorithms: list[str]) -> dict[str, Any]:
    """Claims of a JWT whose signature is good; nothing else is checked. Raises jwt.InvalidTokenError."""
    unchecked: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=algorithms, options=unchecked)
    return claims


class KeyRing:
    """Signing keys, newest first. The old ones stay published until they are retired."""

    KEPT = 3

    def __init__(self) -> None:
        self._keys: list[tuple[str, RSAPrivateKey]] = []
        self.rotate()

    def rotate(self) -> str:
        """Sign with a new key from now on; returns its id."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        key_id = b64(hashlib.sha1(str(key.public_key().public_numbers().n).encode(), usedforsecurity=False).digest())
        self._keys = [(key_id, key), *self._keys][: self.KEPT]
        return key_id

    def retire(self) -> None:
        """Publish the newest key only: tokens signed before are no longer accepted."""
        del self._keys[1:]

    def sign(self, claims: dict[str, Any]) -> str:
        """An RS256 JWT by the newest key."""
        key_id, key = self._keys[0]
        return jwt.encode(claims, key, algorithm="RS256", headers={"kid": key_id, "x5t": key_id})

    def verify(self, token: str) -> dict[str, Any]:
        """Claims of a token with a good signature; times are left to the caller. Raises jwt.InvalidTokenError."""
        wanted = jwt.get_unverified_header(token).get("kid")
        for key_id, key in self._keys:
            if key_id == wanted:
                return signed_claims(token, key.public_key(), ["RS256"])
        raise jwt.InvalidTokenError("signing key is not published")

    def jwks(self, issuer: str) -> dict[str, object]:
        """The published key set."""
        return {"keys": [_jwk(key_id, key, issuer) for key_id, key in self._keys]}


def _jwk(key_id: str, key: RSAPrivateKey, issuer: str) -> dict[str, object]:
    numbers = key.public_key().public_numbers()
    n, e = (b64(i.to_bytes((i.bit_length() + 7) // 8, "big")) for i in (numbers.n, numbers.e))
    return {"kty": "RSA", "use": "sig", "kid": key_id, "x5t": key_id, "n": n, "e": e, "alg": "RS256", "issuer": issuer}


class TokenIssuer:
    """Makes the tokens of one tenant. `origin` is the authority's base URL."""

    def __init__(self, directory: Directory, keys: KeyRing) -> None:
        self.directory = directory
        self.keys = keys
        self.origin = ""

    def issuer(self, tenant_id: str = "") -> str:
        """The `iss` of id_tokens."""
        return f"{self.origin}/{tenant_id or self.directory.tenant_id}/v2.0"

    def lifetime(self) -> int:
        """Seconds an access token lives: the policy's, or at random 60-90 minutes as Entra's default."""
        return self.directory.policy.access_seconds or random.randint(3600, 5400)

    def id_token(self, app: App, user: User, nonce: str, session_id: str, wrong: Mapping[str, Any]) -> str:
        """An id_token; `wrong` overrides claims on order."""
        now = int(self.directory.clock.now())
        claims: dict[str, Any] = {
            "aud": app.client_id,
            "iss": self.issuer(),
            "iat": now - 300,
            "nbf": now - 300,
            "exp": now + 3600,
            "name": user.name,
            "oid": user.object_id,
            "preferred_username": user.upn,
            "rh": f"1.A{secrets.token_urlsafe(20)}",
            "sid": session_id,
            "sub": b64(hashlib.sha256(f"{app.client_id}{user.object_id}".encode()).digest()),
            "tid": self.directory.tenant_id,
            "uti": secrets.token_urlsafe(16),
            "ver": "2.0",
        }
        if nonce:
            claims["nonce"] = nonce
        if user.kind == "guest":
            claims["idp"] = "https://sts.windows.net/99999999-8888-4777-8666-555555555555/"
        return self.keys.sign({**claims, **wrong})

    def access_token(self, app: App, user: User | None, resource: str, granted: list[str], expires_in: int) -> str:
        """An access token for one resource: delegated (`scp`) with a user, application (`roles`) without."""
        now = int(self.directory.clock.now())
        claims: dict[str, Any] = {
            "aud": resource or EXCHANGE,
            "iss": f"https://sts.windows.net/{self.directory.tenant_id}/",
            "iat": now - 300,
            "nbf": now - 300,
            "exp": now + expires_in,
            "appid": app.client_id,
            "app_displayname": app.name,
            "appidacr": "1",
            "tid": self.directory.tenant_id,
            "uti": secrets.token_urlsafe(16),
            "ver": "1.0",
            "jti": str(uuid.uuid4()),
            # Real ones carry some two kilobytes of claims; clients must cope with the size.
            "xms_filler": secrets.token_urlsafe(900),
        }
        if user is None:
            claims |= {"oid": app.object_id, "sub": app.object_id, "idtyp": "app", "roles": granted}
        else:
            claims |= {"oid": user.object_id, "sub": user.object_id, "upn": user.upn, "unique_name": user.upn}
            claims |= {"scp": " ".join(granted), "name": user.name, "idtyp": "user"}
        return self.keys.sign(claims)
