"""One structured log line an event, as text or as JSON. Knows no prompts: a line holds what is put in it."""

import json
import logging
import logging.config
import time
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace

_EVENT: ContextVar[dict[str, Any] | None] = ContextVar("event", default=None)
_LOGGER = logging.getLogger("predictor.edge")


def event() -> dict[str, Any]:
    """The fields of the current request's log line; whoever serves the request adds what it knows."""
    fields = _EVENT.get()
    return {} if fields is None else fields


def begin_event(request_id: str) -> dict[str, Any]:
    """Start the log line of a request in this context, with the id of its trace if it belongs to one."""
    fields: dict[str, Any] = {"request_id": request_id}
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        fields["trace_id"] = trace.format_trace_id(context.trace_id)
    _EVENT.set(fields)
    return fields


def log(
    message: str, fields: dict[str, Any] | None = None, *, level: int = logging.INFO, exc_info: Any = None
) -> None:
    """Write one event with its fields, in the order given."""
    _LOGGER.log(level, message, extra={"fields": fields or {}}, exc_info=exc_info)


def configure_logging(log_format: str, level: str = "INFO") -> None:
    """Send this project's events, and the warnings of KServe and uvicorn, to stderr, one format for all.

    Args:
        log_format: "text" or "json".
        level: of this project's events, by its name in `logging`.
    """
    quiet = {"level": "WARNING", "handlers": ["stderr"], "propagate": False}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"events": {"()": JsonFormatter if log_format == "json" else TextFormatter}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "events"}},
            "root": {"level": "WARNING", "handlers": ["stderr"]},
            "loggers": {
                "predictor": {"level": level},
                "transformer": {"level": level},
                # one line for all spans that could not be sent, none for every new try
                "opentelemetry": {"level": "ERROR"},
                "kserve": quiet,
                "kserve.trace": quiet,
                "uvicorn": quiet,
                # one line a request is ours; uvicorn's would be a second one, without model and rows
                "uvicorn.access": quiet,
            },
        }
    )


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO request done model=emoji rows=1`."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one event on one line, followed by its traceback if it has one."""
        fields: dict[str, Any] = getattr(record, "fields", {})
        words = [_timestamp(record), record.levelname, _one_line(record.getMessage())]
        words += [f"{key}={_one_line(str(value))}" for key, value in fields.items()]
        line = " ".join(words)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one event, its traceback included, as one line of JSON."""
        entry: dict[str, Any] = {
            "time": _timestamp(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= getattr(record, "fields", {})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z"


def _one_line(text: str) -> str:
    """What a client sent must not look like a line of its own."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
