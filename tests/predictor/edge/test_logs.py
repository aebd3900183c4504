"""Lines of the log, as text and as JSON."""

import json
import logging
from typing import Any

from predictor.edge.logs import JsonFormatter, TextFormatter


def record(message: str, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("predictor", logging.INFO, "", 0, message, (), None)
    made.__dict__["fields"] = fields
    return made


def test_a_json_line_is_one_object() -> None:
    line = json.loads(JsonFormatter().format(record("done\nfake", rows=2, path="/\n")))
    assert line.pop("time").endswith("Z")
    assert line == {"level": "INFO", "logger": "predictor", "message": "done\nfake", "rows": 2, "path": "/\n"}


def test_a_text_line_is_one_line_whatever_a_client_sends() -> None:
    line = TextFormatter().format(record("done", path="/a\nERROR fake\r", back="\\n"))
    assert line.endswith("INFO done path=/a\\nERROR fake\\r back=\\\\n")
    assert "\n" not in line
