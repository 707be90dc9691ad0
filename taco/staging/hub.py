"""Files of the Hugging Face hub, by huggingface_hub: at a pinned revision, verified by the digest that the hub announces."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from taco.runtime import file_digest
from taco.staging import transfers
from taco.staging.archives import require_space
from taco.staging.sources import Origin
from taco.staging.transfers import (
    GoneError,
    PageError,
    TransientError,
    Wanted,
    brief,
    check_size,
    network_errors,
)

SHA256 = re.compile(r"[0-9a-f]{64}")


def bring(origin: Origin, part: Path, wanted: Wanted) -> None:
    """huggingface_hub, into a folder of our own, where it keeps and continues what has arrived."""
    import requests
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    file = origin.file or wanted.name
    place = {"repo_id": origin.address, "repo_type": origin.repo_type, "revision": origin.revision}
    folder = part.with_name(part.name + ".hub")
    with network_errors(str(origin)), _hub_errors(origin):
        address = hf_hub_url(filename=file, endpoint=origin.endpoint, **place)
        # The hub's own functions try an unreachable server for half a minute; this asks once.
        answer = requests.head(address, timeout=(transfers.CONNECT_SECONDS, transfers.READ_SECONDS))
        if answer.ok and "text/html" in answer.headers.get("Content-Type", ""):
            raise PageError(
                f"{origin}: expected the hub, found a web page. Check HF_ENDPOINT and the network's login."
            )
        known = get_hf_file_metadata(address, timeout=transfers.READ_SECONDS, endpoint=origin.endpoint)
        # The hub names large files by their sha256: a wrong one is refused before it is fetched.
        if wanted.sha256 and known.etag and SHA256.fullmatch(known.etag) and known.etag != wanted.sha256:
            raise GoneError(
                f"{origin}: {file}: expected sha256 {wanted.sha256}, the hub announces {known.etag}. The repository "
                "has changed: pin the revision that has the recorded file."
            )
        if known.size is not None:
            check_size(known.size, wanted, str(origin))
            require_space(part.parent, known.size, wanted.name)
        arrived = Path(hf_hub_download(filename=file, local_dir=folder, endpoint=origin.endpoint, **place))
    announced = known.etag if known.etag and SHA256.fullmatch(known.etag) else None
    arrived.replace(part)
    shutil.rmtree(folder)
    if announced:
        _check_announced(part, announced, origin)


def _check_announced(part: Path, announced: str, origin: Origin) -> None:
    if (found := file_digest(part)) != announced:
        part.unlink()
        raise TransientError(f"{origin}: expected sha256 {announced}, what arrived has {found}.")


@contextlib.contextmanager
def _hub_errors(origin: Origin) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise GoneError(
            f"{origin}: HF_HUB_OFFLINE is set. Unset it while staging; set it again for runs."
        ) from error
    except errors.GatedRepoError as error:
        raise GoneError(
            f"{origin}: the repository asks for a login and its terms. Accept them on its page, then `hf auth login`."
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise TransientError(f"{origin}: the hub cannot be reached ({brief(error)}).") from error
        raise GoneError(
            f"{origin}: expected the file at this revision, the hub answered: {brief(error)}. See config/README.md, "
            "“When a source has gone”."
        ) from error
    except errors.FileMetadataError as error:
        raise PageError(
            f"{origin}: expected the hub, found another server ({brief(error)}). Check HF_ENDPOINT."
        ) from error


def resolve_revision(origin: Origin) -> Origin:
    """The same origin at the commit that it has now, where the catalogue pins none."""
    from huggingface_hub import HfApi

    if origin.tool != "hub" or origin.revision:
        return origin
    with network_errors(str(origin)), _hub_errors(origin):
        found = HfApi(endpoint=origin.endpoint).repo_info(origin.address, repo_type=origin.repo_type)
    return replace(origin, revision=found.sha)


def files(origin: Origin, suffixes: tuple[str, ...]) -> list[str]:
    """Names of the repository's files with one of the suffixes, sorted."""
    from huggingface_hub import HfApi

    with network_errors(str(origin)), _hub_errors(origin):
        files = HfApi(endpoint=origin.endpoint).list_repo_files(
            origin.address, repo_type=origin.repo_type, revision=origin.revision
        )
    return sorted(file for file in files if file.lower().endswith(suffixes))


def cached(origin: Origin, name: str) -> Path | None:
    """The file in huggingface_hub's own cache, where it is there at the pinned revision."""
    from huggingface_hub import try_to_load_from_cache

    if origin.tool != "hub" or not origin.revision:
        return None
    found = try_to_load_from_cache(
        origin.address, origin.file or name, revision=origin.revision, repo_type=origin.repo_type
    )
    return Path(found) if isinstance(found, str) else None
