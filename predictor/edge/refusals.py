"""What a caller is told in place of a reply: every exception as an error of ours, and as a reply of REST.

What is not meant for the caller stays in the log. It knows no route and no model.
"""

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from kserve import errors as kserve_errors
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from predictor.edge.logs import event, log
from predictor.errors import InvalidInput, ServingError, UnknownModel


class ErrorReply(BaseModel):
    """What every error looks like."""

    error: str


async def answer(request: Request, error: Exception) -> Response:
    """Every exception's reply in REST; an unexpected one is told by the request's id."""
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        status, message = error.status_code, str(error.detail)
        headers = dict(error.headers or {})
    else:
        known = serving_error(error)
        status, message, headers = known.http_status, known.message, known.headers
        if status == 500:
            message = f"{message} (request {request.state.request_id})"
    event()["error"] = message
    return Response(orjson.dumps({"error": message}), status, headers, "application/json")


def serving_error(error: Exception) -> ServingError:
    """The error to tell the caller; an unexpected one is logged here with its traceback, and told without."""
    match error:
        case ServingError():
            return error
        case RequestValidationError():
            return InvalidInput("request", "its path or query is wrong")
        case kserve_errors.InvalidInput():
            return InvalidInput("request", error.reason)
        case kserve_errors.ModelNotFound():
            return UnknownModel(error.reason)
    log("unexpected error", dict(event()), level=40, exc_info=error)
    return ServingError("internal error")
