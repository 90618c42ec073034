"""Hugging Face's hub: which commit a revision is, what its file hashes to, and where its bytes are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from graycat.engines.models.errors import DownloadFailed
from graycat.engines.models.sources import HubFile, Origin
from graycat.engines.models.transfer import LATER, Broken, check_plain
from graycat.settings import Settings

#: Seconds that the hub gets to tell of a file.
METADATA_TIMEOUT_S = 10.0
_SHA256_CHARS = 64
OFFLINE = "HF_HUB_OFFLINE is set and the file is not here"


@dataclass(frozen=True, slots=True)
class Remote:
    """What to ask for, and what is known of it beforehand."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    sha256: str = ""
    size: int | None = None
    #: Names this very content; '' where only the reply does.
    version: str = ""
    #: The commit.
    revision: str = ""


def remote_of(origin: Origin, settings: Settings) -> Remote:
    """Return what to ask for. Raises Broken and DownloadFailed."""
    if origin.hub is None:
        return Remote(origin.url, sha256=origin.sha256)
    if settings.hf_hub_offline:
        raise DownloadFailed(OFFLINE, permanent=True)
    return _located(origin.hub, origin.sha256, settings)


def _located(file: HubFile, pinned: str, settings: Settings) -> Remote:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    # Without a token of ours the library looks for the one that "hf auth login" keeps.
    token, endpoint = settings.hf_token or None, settings.hf_endpoint.rstrip("/") or None
    url = hf_hub_url(file.repo, file.path, revision=file.revision, endpoint=endpoint)
    check_plain(url)
    with _errors():
        about = get_hf_file_metadata(url, token=token, timeout=METADATA_TIMEOUT_S, endpoint=endpoint)
        headers = build_hf_headers(token=token, library_name="graycat")
    if about.commit_hash is None or about.etag is None:
        raise DownloadFailed("HF_ENDPOINT is no hub: it tells neither commit nor ETag", permanent=True)
    digest = about.etag if len(about.etag) == _SHA256_CHARS else ""
    if pinned and digest and pinned != digest:
        raise DownloadFailed("the hub's file has another hash than #sha256= says", permanent=True)
    # By its commit: a branch may move while this goes on.
    url = hf_hub_url(file.repo, file.path, revision=about.commit_hash, endpoint=endpoint)
    return Remote(url, headers, pinned or digest, about.size, about.etag, about.commit_hash)


@contextmanager
def _errors() -> Iterator[None]:
    """Tell of the library's errors in words of ours: its own hold the address."""
    from huggingface_hub import errors as hub

    reasons = (
        (hub.OfflineModeIsEnabled, OFFLINE),
        (hub.GatedRepoError, "the model is gated: accept its terms on Hugging Face and set HF_TOKEN"),
        (hub.RepositoryNotFoundError, "the hub has no such repository, or HF_TOKEN may not read it"),
        (hub.RevisionNotFoundError, "the repository has no such revision"),
        (hub.EntryNotFoundError, "the repository has no such file"),
        (hub.FileMetadataError, "HF_ENDPOINT is no hub"),
    )
    try:
        yield
    except (hub.HTTPError, OSError) as error:
        for kind, reason in reasons:
            if isinstance(error, kind):
                raise DownloadFailed(reason, permanent=True) from None
        if not isinstance(error, hub.HfHubHTTPError):
            raise Broken("the hub cannot be reached") from None
        status = error.response.status_code
        if status < 500 and status not in LATER:
            raise DownloadFailed(f"the hub answered {status}", permanent=True) from None
        raise Broken(f"the hub answered {status}") from None
