"""Files on the Hugging Face Hub: resolves a revision to its commit, and finds the file's hash, size and URL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from graycat.engines.models.errors import DownloadFailed
from graycat.engines.models.sources import CheckpointSource, HubFile
from graycat.engines.models.transfer import RETRY_STATUSES, TransferInterrupted, check_plain_http
from graycat.settings import Settings

#: Seconds that the Hub gets to answer a request for a file's metadata.
METADATA_TIMEOUT_S = 10.0
_SHA256_CHARS = 64
OFFLINE = "HF_HUB_OFFLINE is set and the file is not on this machine"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What to request, and what is known about the file before the request."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: The expected hash; '' if it is unknown.
    sha256: str = ""
    size: int | None = None
    #: Identifies this exact content (the Hub's ETag); '' if only the response will tell.
    version: str = ""
    #: The commit on the Hub; '' for other sources.
    revision: str = ""


def resolve(source: CheckpointSource, settings: Settings) -> RemoteFile:
    """Return the file to request for a source. Raises TransferInterrupted and DownloadFailed."""
    if source.hub is None:
        return RemoteFile(source.url, sha256=source.sha256)
    if settings.hf_hub_offline:
        raise DownloadFailed(OFFLINE, permanent=True)
    return _resolve_hub_file(source.hub, source.sha256, settings)


def _resolve_hub_file(file: HubFile, pinned_sha256: str, settings: Settings) -> RemoteFile:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    # With None, the library uses the token that "hf auth login" has saved.
    token = settings.hf_token or None
    endpoint = settings.hf_endpoint.rstrip("/") or None
    url = hf_hub_url(file.repo, file.path, revision=file.revision, endpoint=endpoint)
    check_plain_http(url)
    with _translate_errors():
        metadata = get_hf_file_metadata(url, token=token, timeout=METADATA_TIMEOUT_S, endpoint=endpoint)
        headers = build_hf_headers(token=token, library_name="graycat")
    if metadata.commit_hash is None or metadata.etag is None:
        raise DownloadFailed("HF_ENDPOINT is no hub: its replies contain neither commit nor ETag", permanent=True)

    # For large files (Git LFS) the ETag is the SHA-256.
    sha256 = ""
    if len(metadata.etag) == _SHA256_CHARS:
        sha256 = metadata.etag
    if pinned_sha256 and sha256 and pinned_sha256 != sha256:
        raise DownloadFailed("the file on the hub has another hash than #sha256= in its address", permanent=True)

    # Request the commit, not the branch: a branch may move during the download.
    url = hf_hub_url(file.repo, file.path, revision=metadata.commit_hash, endpoint=endpoint)
    return RemoteFile(
        url=url,
        headers=headers,
        sha256=pinned_sha256 or sha256,
        size=metadata.size,
        version=metadata.etag,
        revision=metadata.commit_hash,
    )


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise our own errors in place of the library's, whose messages contain the URL."""
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
        for error_class, reason in reasons:
            if isinstance(error, error_class):
                raise DownloadFailed(reason, permanent=True) from None
        if not isinstance(error, hub.HfHubHTTPError):
            raise TransferInterrupted("the hub cannot be reached") from None
        status = error.response.status_code
        if status < 500 and status not in RETRY_STATUSES:
            raise DownloadFailed(f"the hub answered {status}", permanent=True) from None
        raise TransferInterrupted(f"the hub answered {status}") from None
