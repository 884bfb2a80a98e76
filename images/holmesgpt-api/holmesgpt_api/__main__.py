"""Settings from the environment, then serve until told to stop.

| variable | default | meaning |
| --- | --- | --- |
| `LISTEN_PORT` | 8080 | port of the HTTP server, on every address |
| `CASES_DIR` | `cases` | folder of recorded cases, one JSON file each |
| `LOG_LEVEL` | `info` | `error`, `warning`, `info` or `debug` |

uvicorn ends in order on SIGTERM: it takes no more connections and waits for the answers under way, for
at most `GRACE` seconds.
"""

import os
import sys
from pathlib import Path

import uvicorn

from holmesgpt_api import logs
from holmesgpt_api.app import make_app
from holmesgpt_api.cases import CaseError, Cases

GRACE = 10


def main() -> int:
    logs.start(os.environ.get("LOG_LEVEL", "info"))
    try:
        port = int(os.environ.get("LISTEN_PORT", "8080"))
        cases = Cases.read(Path(os.environ.get("CASES_DIR", "cases")))
    except (CaseError, ValueError) as error:
        logs.LOGGER.error("the settings cannot be used", extra={"error": str(error)})
        return 2
    logs.LOGGER.info("listening", extra={"port": port, "cases": len(cases)})
    uvicorn.run(
        make_app(cases),
        host="0.0.0.0",
        port=port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE,
    )
    logs.LOGGER.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
