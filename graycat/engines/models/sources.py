"""Where a checkpoint comes from: an address on Hugging Face's hub or anywhere else, read and made presentable."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from graycat.egress import Target, is_public

HUB_SCHEME = "hf://"
HUB_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
DEFAULT_REVISION = "main"
#: Characters of the digest that tells one origin from another.
KEY_CHARS = 16

_PIN = re.compile(r"sha256=([0-9a-fA-F]{64})")
_PATH_AT_REVISION = re.compile(r"(.+\.[a-z]+)@([^/]+)")
#: Parameters that let somebody in or sign an address: they change while the file stays the same, and nobody sees them.
_SECRET_PARAMETERS = frozenset(
    (
        *("token", "access_token", "auth_token", "api_token", "api_key", "apikey", "api-key", "auth", "authorization"),
        *("password", "passwd", "secret", "signature", "sig", "expires", "policy", "key-pair-id", "awsaccesskeyid"),
        *("googleaccessid", "se", "sp", "sv", "sr", "st", "spr", "skoid", "sktid", "skt", "ske", "sks", "skv"),
    )
)
_SECRET_PREFIXES = ("x-amz-", "x-goog-")

PLAIN_NOTE = (
    "plain http is for this machine and private networks only: on the way through the internet anybody can put another "
    "file in its place, and engines trust what they load; use https://"
)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a model's repository on Hugging Face's hub."""

    repo: str
    revision: str
    path: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a checkpoint comes from. ``public`` may be shown; ``key`` is the same for the same file."""

    public: str
    key: str
    #: What the address calls the file; a server may know better.
    name: str
    #: What the file's content must hash to; '' where the operator does not say.
    sha256: str = ""
    #: What to ask for, secrets and all; '' where ``hub`` says it.
    url: str = field(default="", repr=False)
    hub: HubFile | None = None


def parse(text: str, endpoint: str = "") -> Origin:
    """Return the origin that an address names; ``endpoint`` is another hub than Hugging Face's own.

    Raises ValueError, which never repeats the address: it may hold a secret.
    """
    address, _, fragment = text.partition("#")
    pin = _PIN.fullmatch(fragment)
    if fragment and not pin:
        raise ValueError("may end in #sha256= and 64 hexadecimal digits, in nothing else behind a #")
    digest = pin[1].lower() if pin else ""
    if file := _hub_file(address, endpoint):
        public = f"{HUB_SCHEME}{file.repo}@{file.revision}/{file.path}"
        return Origin(public, _key(public), file.path.rpartition("/")[2], digest, hub=file)
    return _plain(address, digest)


def _plain(address: str, digest: str) -> Origin:
    login, _, host = urlsplit(address).netloc.rpartition("@")
    bare = address.replace(f"{login}@", "", 1) if login else address
    target = Target.from_url(bare)
    if target.scheme == "http" and target.literal is not None and is_public(target.literal):
        raise ValueError(f"cannot be used: {PLAIN_NOTE}")
    parts = urlsplit(bare)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if not _is_secret(name)]
    public = f"{parts.scheme}://{target.authority}{parts.path or '/'}"
    identity = f"{public}?{urlencode(kept)}" if kept else public
    # Of a query only that there is one: what it says may be a secret under any name.
    shown = f"{public}?..." if parts.query else public
    return Origin(shown, _key(identity), unquote(parts.path.rpartition("/")[2]), digest, url=address)


def _hub_file(address: str, endpoint: str) -> HubFile | None:
    """Return the hub's file that an address names; None where it leads elsewhere. Raises ValueError."""
    parts = urlsplit(address)
    on_hub = address.startswith(HUB_SCHEME)
    if not on_hub and (parts.netloc not in HUB_HOSTS and parts.netloc != urlsplit(endpoint).netloc or not parts.netloc):
        return None
    # Takes a moment to import, and most have no use for it.
    from huggingface_hub.errors import HfUriError
    from huggingface_hub.utils import parse_hf_uri

    try:
        uri = parse_hf_uri(address, endpoint=endpoint or None)
    except HfUriError:
        if on_hub:
            raise ValueError("must look like hf://OWNER/REPO/FILE or hf://OWNER/REPO@REVISION/FILE") from None
        return None
    if uri.type != "model" or not uri.path_in_repo:
        if on_hub:
            raise ValueError("must name a file in a model's repository: hf://OWNER/REPO/FILE")
        return None
    path, revision = uri.path_in_repo, uri.revision
    if revision is None and (match := _PATH_AT_REVISION.fullmatch(path)):
        path, revision = match.groups()
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("has a path that leads nowhere")
    return HubFile(uri.id, revision or DEFAULT_REVISION, path)


def _is_secret(parameter: str) -> bool:
    name = parameter.lower()
    return name in _SECRET_PARAMETERS or name.startswith(_SECRET_PREFIXES)


def _key(identity: str) -> str:
    return sha256(identity.encode()).hexdigest()[:KEY_CHARS]


def is_private(host: str) -> bool:
    """Tell whether all addresses of a host are this machine's or a private network's. Raises OSError."""
    found = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    return not any(is_public(ip_address(address)) for address in found)
