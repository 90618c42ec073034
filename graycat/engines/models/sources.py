"""Where a checkpoint comes from: parses addresses on the Hugging Face Hub and other URLs, and hides their secrets."""

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
#: Length of the digest that distinguishes one source from another.
KEY_CHARS = 16

_PIN = re.compile(r"sha256=([0-9a-fA-F]{64})")
_PATH_AT_REVISION = re.compile(r"(.+\.[a-z]+)@([^/]+)")
#: Query parameters that grant access or sign a URL. They change while the file stays the same, and are never shown.
_SECRET_PARAMETERS = frozenset(
    [
        "token",
        "access_token",
        "auth_token",
        "api_token",
        "api_key",
        "apikey",
        "api-key",
        "auth",
        "authorization",
        "password",
        "passwd",
        "secret",
        "signature",
        "sig",
        "expires",
        "policy",
        # Amazon CloudFront and S3, Google Cloud Storage (older signatures).
        "key-pair-id",
        "awsaccesskeyid",
        "googleaccessid",
        # Azure Blob Storage.
        "se",
        "sp",
        "sv",
        "sr",
        "st",
        "spr",
        "skoid",
        "sktid",
        "skt",
        "ske",
        "sks",
        "skv",
    ]
)
#: The same of Amazon S3 and Google Cloud Storage.
_SECRET_PREFIXES = ("x-amz-", "x-goog-")

PLAIN_HTTP_NOTE = (
    "plain http is for this machine and private networks only: on the internet anybody on the way can replace the "
    "file, and engines trust what they load; use https://"
)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a model repository on the Hugging Face Hub."""

    repo: str
    revision: str
    path: str


@dataclass(frozen=True, slots=True)
class CheckpointSource:
    """Where a checkpoint comes from."""

    #: The address without secrets, for logs and lists.
    display_url: str
    #: The same for every address of the same file.
    key: str
    #: The file name in the address; the server may send another one.
    name: str
    #: The hash that the content must have (``#sha256=`` in the address); '' for any.
    sha256: str = ""
    #: The URL to request, secrets included; '' if ``hub`` is set.
    url: str = field(default="", repr=False)
    hub: HubFile | None = None


def parse_source(text: str, endpoint: str = "") -> CheckpointSource:
    """Return the source that an address names. ``endpoint``: the URL of another hub than Hugging Face's own.

    Raises ValueError, whose message never contains the address, because that may hold a secret.
    """
    address, _, fragment = text.partition("#")
    pinned_sha256 = ""
    if fragment:
        pin = _PIN.fullmatch(fragment)
        if not pin:
            raise ValueError("has a wrong end: after the # it may have sha256= and 64 hexadecimal digits only")
        pinned_sha256 = pin[1].lower()

    file = _parse_hub_file(address, endpoint)
    if file is None:
        return _parse_url(address, pinned_sha256)
    display_url = f"{HUB_SCHEME}{file.repo}@{file.revision}/{file.path}"
    name = file.path.rpartition("/")[2]
    return CheckpointSource(display_url, _key(display_url), name, pinned_sha256, hub=file)


def _parse_url(address: str, pinned_sha256: str) -> CheckpointSource:
    """Return the source at any other URL than a hub's. Raises ValueError."""
    login, _, _ = urlsplit(address).netloc.rpartition("@")
    without_login = address
    if login:
        without_login = address.replace(f"{login}@", "", 1)
    target = Target.from_url(without_login)
    if target.scheme == "http" and target.literal is not None and is_public(target.literal):
        raise ValueError(f"cannot be used: {PLAIN_HTTP_NOTE}")

    parts = urlsplit(without_login)
    base_url = f"{parts.scheme}://{target.authority}{parts.path or '/'}"
    # Two addresses that differ in their secrets only are the same file.
    identity = base_url
    parameters = parse_qsl(parts.query, keep_blank_values=True)
    public_parameters = [(name, value) for name, value in parameters if not _is_secret(name)]
    if public_parameters:
        identity += f"?{urlencode(public_parameters)}"
    # The query is never shown: any of its parameters may be a secret.
    display_url = base_url
    if parts.query:
        display_url += "?..."
    name = unquote(parts.path.rpartition("/")[2])
    return CheckpointSource(display_url, _key(identity), name, pinned_sha256, url=address)


def _parse_hub_file(address: str, endpoint: str) -> HubFile | None:
    """Return the file on the hub that an address names; None if it is another URL. Raises ValueError."""
    uses_hub_scheme = address.startswith(HUB_SCHEME)
    if not uses_hub_scheme and not _is_hub_host(urlsplit(address).netloc, endpoint):
        return None
    # The import is slow, and most installations do not need it.
    from huggingface_hub.errors import HfUriError
    from huggingface_hub.utils import parse_hf_uri

    try:
        uri = parse_hf_uri(address, endpoint=endpoint or None)
    except HfUriError:
        if uses_hub_scheme:
            raise ValueError("must look like hf://OWNER/REPO/FILE or hf://OWNER/REPO@REVISION/FILE") from None
        return None
    if uri.type != "model" or not uri.path_in_repo:
        if uses_hub_scheme:
            raise ValueError("must name a file in a model's repository: hf://OWNER/REPO/FILE")
        return None

    path, revision = uri.path_in_repo, uri.revision
    if revision is None:
        path, revision = _split_revision(path)
    if not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise ValueError("has an invalid path: '.', '..' and empty parts are not allowed")
    return HubFile(uri.id, revision, path)


def _split_revision(path: str) -> tuple[str, str]:
    """Return path and revision of ``FILE@REVISION``; without a revision, the default one."""
    match = _PATH_AT_REVISION.fullmatch(path)
    if match is None:
        return path, DEFAULT_REVISION
    return match[1], match[2]


def _is_hub_host(host: str, endpoint: str) -> bool:
    return bool(host) and (host in HUB_HOSTS or host == urlsplit(endpoint).netloc)


def _is_secret(parameter: str) -> bool:
    name = parameter.lower()
    return name in _SECRET_PARAMETERS or name.startswith(_SECRET_PREFIXES)


def _key(identity: str) -> str:
    return sha256(identity.encode()).hexdigest()[:KEY_CHARS]


def is_private_host(host: str) -> bool:
    """Return whether all addresses of a host belong to this machine or a private network. Raises OSError."""
    for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        # A link-local IPv6 address may end in %INTERFACE.
        address = str(info[4][0]).partition("%")[0]
        if is_public(ip_address(address)):
            return False
    return True
