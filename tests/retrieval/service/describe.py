"""Writes docs/openapi.json, which a test compares: `python -m tests.retrieval.service.describe`."""

import json
import tempfile
from pathlib import Path

from tests.retrieval.search.pictured import make_index
from tests.retrieval.service.served import client_of

FILE = Path(__file__).parents[3] / "docs" / "openapi.json"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with client_of(make_index(Path(folder), {})) as client:
            content = client.get("/openapi.json").json()
    FILE.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
