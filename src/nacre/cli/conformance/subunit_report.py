"""Runs under Tempest's own Python: reads a subunit v2 stream from stdin, writes one JSON list to stdout.

Each element: {"id", "status" (success, fail, skip, xfail, uxsuccess, inprogress), "seconds", "text"}. Text is a traceback or the reason of a skip.
"""

import json
import sys
from typing import Any

from subunit import ByteStreamToStreamResult
from testtools import StreamToDict


def main() -> None:
    found: list[dict[str, Any]] = []

    def take(test: dict[str, Any]) -> None:
        if test["id"] is None or test["status"] == "exists":
            return
        began, ended = test["timestamps"]
        details = test["details"]
        wanted = [name for name in ("reason", *sorted(details)) if name in details and name.startswith(("reason", "traceback"))]
        found.append(
            {
                "id": test["id"],
                "status": test["status"],
                "seconds": (ended - began).total_seconds() if began and ended else 0.0,
                "text": "\n".join(details[name].as_text() for name in dict.fromkeys(wanted)),
            }
        )

    result = StreamToDict(take)
    result.startTestRun()
    ByteStreamToStreamResult(sys.stdin.buffer, non_subunit_name="stdout").run(result)
    result.stopTestRun()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
