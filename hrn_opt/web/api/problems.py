"""Errors for programs: RFC 9457 problem details, and which status each error has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from hrn_opt import errors
from hrn_opt.errors import HrnOptError, InternalError

MEDIA_TYPE = "application/problem+json"
_TRY_AGAIN_S = "60"
# The nearest class above an error decides.
_STATUS: dict[type[HrnOptError], int] = {
    errors.PhotoTooLarge: 413,
    errors.PhotoFormatUnsupported: 415,
    errors.NotHere: 404,
    errors.InputError: 422,
    errors.ModelMissing: 422,
    errors.QueueFull: 429,
    errors.DeadlinePassed: 504,
    errors.OutputUnwritable: 507,
    errors.DiskFull: 507,
    errors.OutOfMemory: 503,
    errors.InternalError: 500,
    HrnOptError: 503,
}


class Problem(BaseModel):
    """What went wrong with a request, as RFC 9457 has it."""

    type: str = Field(default="about:blank", description="Always about:blank: title and error say what it is.")
    title: str = Field(description="The kind of problem, in words.")
    status: int = Field(description="The HTTP status again.")
    detail: str = Field(description="What was wrong, and what to do.")
    error: str = Field(description="The kind of problem as a name for programs, such as NoFaceFound.")
    values: dict[str, str | int | float] = Field(default={}, description="The numbers and names in the detail.")


def status_of(error: HrnOptError) -> int:
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def problem_of(error: HrnOptError) -> Problem:
    name = type(error).__name__
    title = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip().capitalize()
    return Problem(title=title, status=status_of(error), detail=str(error), error=name, values=error.values)


def respond(error: HrnOptError) -> JSONResponse:
    problem = problem_of(error)
    headers = {"Retry-After": _TRY_AGAIN_S} if problem.status in (429, 503) else None
    return JSONResponse(problem.model_dump(), problem.status, headers, MEDIA_TYPE)


async def respond_to_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HrnOptError)
    return respond(error)


async def respond_to_invalid(request: Request, error: Exception) -> JSONResponse:
    """A form that is not as it is described."""
    assert isinstance(error, RequestValidationError)
    said = said_of([{**one, "loc": one["loc"][1:]} for one in error.errors()])  # the first is "body"
    problem = Problem(title="Request invalid", status=422, detail=said, error="RequestInvalid")
    return JSONResponse(problem.model_dump(), 422, media_type=MEDIA_TYPE)


def said_of(errors: Iterable[Mapping[str, Any]]) -> str:
    """What pydantic's errors say, each after the field's name."""
    said = [f"{'.'.join(str(part) for part in one['loc']) or 'body'}: {one['msg']}" for one in errors]
    return "; ".join(said)[:2000].encode(errors="replace").decode()  # names of fields may be no text


async def respond_to_http(request: Request, error: Exception) -> JSONResponse:
    """What the framework itself refuses: no such route, another method, a broken form."""
    assert isinstance(error, HTTPException)
    problem = Problem(
        title=str(error.detail), status=error.status_code, detail=str(error.detail), error=f"Http{error.status_code}"
    )
    return JSONResponse(problem.model_dump(), error.status_code, error.headers, MEDIA_TYPE)


async def respond_to_fault(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours, which the log has."""
    return respond(InternalError("Something went wrong here; the server's log says what."))
