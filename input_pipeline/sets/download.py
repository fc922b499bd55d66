"""Downloads one file, whole and checked, or leaves nothing behind."""

import contextlib
import logging
from pathlib import Path
from typing import Any

from input_pipeline.atomic_file import nearest_existing
from input_pipeline.errors import DataError

TIMEOUT_SECONDS = 30


def fetch(url: str, target: Path, md5: str) -> None:
    """Downloads `url` to `target`, which appears only once it is complete and its MD5 right.

    DataError for a host that fails or stays silent for 30 s, or another MD5.
    """
    import pooch  # late, with requests: most runs download nothing
    from requests.exceptions import RequestException

    def close_refusal(response: Any, *_: Any, **__: Any) -> None:  # Pooch leaves it open
        if not response.ok:
            response.close()

    download: Any = pooch.HTTPDownloader(
        progressbar=True,
        chunk_size=1 << 20,
        timeout=TIMEOUT_SECONDS,
        hooks={"response": close_refusal},
    )
    existing = nearest_existing(target.parent)
    if existing != target.parent:
        logging.getLogger(__name__).warning("%s does not exist yet: it is made", target.parent)
    try:
        pooch.retrieve(
            url, f"md5:{md5}", fname=target.name, path=target.parent, downloader=download
        )
    except RequestException as error:
        raise DataError(f"cannot download {url} to {target.parent} ({error})") from error
    except ValueError as error:
        raise DataError(f"{url}: {error} What arrived was deleted") from error
    except OSError as error:
        raise DataError(f"cannot write to {target.parent} ({error})") from error
    finally:
        folder = target.parent
        with contextlib.suppress(OSError):  # only empty folders go
            while folder != existing:
                folder.rmdir()
                folder = folder.parent
