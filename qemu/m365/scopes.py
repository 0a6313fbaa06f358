"""Reading of the `scope` parameter: which resource, which permissions."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from qemu.m365.directory import EXCHANGE, EXCHANGE_NAMES, GRAPH, OPENID_SCOPES
from qemu.m365.replies import OAuthFault

_PERMISSIONS = {
    EXCHANGE: {"smtp.send": "SMTP.Send", "imap.accessasuser.all": "IMAP.AccessAsUser.All", ".default": "SMTP.Send"},
    GRAPH: {"smtp.send": "SMTP.Send", "user.read": "User.Read", "mail.send": "Mail.Send", ".default": "User.Read"},
}


@dataclass(frozen=True)
class Scopes:
    """A scope parameter, sorted out. `resources` maps each resource to its permissions, in the order asked."""

    openid: tuple[str, ...]
    resources: dict[str, tuple[str, ...]]

    def full(self) -> tuple[str, ...]:
        """All scopes in full form, as consent and authorization codes keep them."""
        named = (f"{resource}/{p}" for resource, permissions in self.resources.items() for p in permissions)
        return (*named, *self.openid)

    def first_resource(self) -> tuple[str, tuple[str, ...]]:
        """The resource a token is for, with its permissions: the first one asked, or Graph's own for none."""
        return next(iter(self.resources.items()), (GRAPH, ("User.Read",)))


def parse_scopes(text: str) -> Scopes:
    """Sort out a scope parameter. A bare name belongs to Graph. Raises OAuthFault 70011, 500011."""
    openid: list[str] = []
    resources: dict[str, list[str]] = {}
    for item in text.split():
        if item.lower() in OPENID_SCOPES:
            openid.append(item.lower())
            continue
        resource, permission = _split(item)
        names = resources.setdefault(resource, [])
        if permission not in names:
            names.append(permission)
    return Scopes(tuple(dict.fromkeys(openid)), {r: tuple(p) for r, p in resources.items()})


def _split(item: str) -> tuple[str, str]:
    if "://" not in item:
        resource, name = GRAPH, item
    else:
        parts = urlsplit(item)
        resource, name = f"{parts.scheme}://{parts.netloc}".lower(), parts.path.lstrip("/")
    if resource in EXCHANGE_NAMES:
        resource = EXCHANGE
    if resource not in _PERMISSIONS:
        raise OAuthFault(500011, resource=resource)
    permission = _PERMISSIONS[resource].get(name.lower())
    if permission is None:
        raise OAuthFault(70011, scope=item)
    return resource, permission
