"""Files that are written into a server before its first boot (`personality`, until 2.56), within the project's quotas for them."""

import base64
from collections.abc import Sequence

import sqlalchemy as sa

from nacre.cloud.compute import quotas
from nacre.cloud.errors import OverQuota

File = dict[str, str]
"""{path, contents}, the contents in base64."""


def check(conn: sa.Connection, project_id: str, files: Sequence[File]) -> None:
    """Raises OverQuota in Nova's words."""
    if not files:
        return
    limits = quotas.limits_of(conn, project_id)
    longest_path = max(len(file["path"].encode()) for file in files)
    largest = max(len(base64.b64decode(file["contents"])) for file in files)
    for resource, size, words in (
        ("injected_files", len(files), "Personality file limit exceeded"),
        ("injected_file_path_bytes", longest_path, "Personality file path exceeds maximum"),
        ("injected_file_content_bytes", largest, "Personality file content exceeds maximum"),
    ):
        if 0 <= limits[resource] < size:
            raise OverQuota(f"{words} {limits[resource]}", field="personality", code="OnsetFileLimitExceeded")
