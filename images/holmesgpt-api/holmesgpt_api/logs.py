"""Logs: one JSON object a line on stdout, the fields of the event at the top level."""

import json
import logging
import sys
from datetime import UTC, datetime

LOGGER = logging.getLogger("holmesgpt_api")

#: What every record has; all else on it is a field of the event.
_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {key: value for key, value in vars(record).items() if key not in _OWN}
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def start(level: str) -> None:
    """Sends all logs, uvicorn's too, to stdout; an unknown level is `info`."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    known = logging.getLevelNamesMapping()
    logging.basicConfig(
        level=known.get(level.upper(), logging.INFO), handlers=[handler], force=True
    )
