"""The endpoints: the web page, `/predict`, `/health` and `/ready`."""

import re
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from pydantic import BaseModel, JsonValue

from .guard import Guard
from .limits import Limits
from .workers import Workers

# The page is a single file: it loads nothing else and sends requests only to this server.
POLICY = (
    "default-src 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DEFAULTS = Limits()
SAMPLES = 12  # that the page shows


class Prediction(BaseModel):
    """One prediction: the values of `run --json`, and the sentence that `run` prints."""

    values: dict[str, JsonValue]
    sentence: str


class Answer(BaseModel):
    """The predictions for a file, and their pictures as `data:` URIs by name."""

    predictions: list[Prediction]
    pictures: dict[str, str]
    seconds: float


class Health(BaseModel):
    """What is served: the model, its classes, what it accepts, and the libraries' versions."""

    project: str
    model: str
    classes: list[str]
    suffix: str  # the most frequent one in the training data
    megabytes: float  # the largest request
    samples: list[str]  # files of `/samples/`
    versions: dict[str, str]


class Ready(BaseModel):
    """Whether a new request would be accepted, and how many are in progress."""

    ready: bool
    requests: int


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


def build(
    folder: Path,
    megabytes: float | None = None,
    pt2: bool = False,
    limits: Limits = DEFAULTS,
    hosts: Iterable[str] = (),
    samples: Path | None = None,
) -> FastAPI:
    """The app for an exported model; UserError if the folder has no usable one.

    It answers requests for `localhost`, for IP addresses, and for the names in `hosts`.
    `megabytes` replaces `limits.max_megabytes`.
    """
    if megabytes is not None:
        limits = replace(limits, max_megabytes=megabytes)
    aside = tempfile.TemporaryDirectory()  # for the files and pictures of current requests
    workers = Workers(folder, pt2, Path(aside.name), limits)
    guard = Guard(limits, hosts)
    files = find_samples(samples, limits) if samples else {}

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        workers.close()
        aside.cleanup()

    # FastAPI's docs pages load scripts from a CDN, so they are off; /openapi.json stays.
    title = f"{project_name()}: {workers.about['model']}"
    refused = problems(400)
    app = FastAPI(title=title, docs_url=None, redoc_url=None, lifespan=life, responses=refused)
    app.add_middleware(guard.around)
    app.add_exception_handler(RequestValidationError, explain)
    app.state.guard = guard
    add_pages(app, files, describe(workers.about, limits, files))

    @app.get("/ready", response_model=Ready, responses={503: {"model": Ready}})
    async def ready() -> JSONResponse:
        state = {"ready": guard.ready, "requests": guard.active}
        return JSONResponse(state, 200 if guard.ready else 503)

    refused = problems(403, 408, 413, 422, 500, 503, 504)

    @app.post("/predict", response_model=Answer, responses=refused)
    async def predict(file: UploadFile) -> Response:
        status, answer = await workers.predict(plain_name(file.filename or ""), file.read)
        return Response(answer, status, media_type="application/json")

    return app


def add_pages(app: FastAPI, files: dict[str, Path], about: Health) -> None:
    """The web page, what it shows, and `/health`."""
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    @app.get("/health")
    async def health() -> Health:
        return about

    @app.get("/samples/{name}", response_class=FileResponse, responses=problems(404))
    async def sample(name: str) -> FileResponse:
        if name not in files:
            raise HTTPException(404, f"no sample {name[:80]!r}; /health lists all")
        return FileResponse(files[name])


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How OpenAPI declares these statuses."""
    return {each: {"model": Problem} for each in statuses}


def describe(about: dict[str, Any], limits: Limits, samples: Iterable[str]) -> Health:
    """The content of `/health`, from the content of `export.json`."""
    classes = about["info"].get("classes")
    known = {key: about[key] for key in ("model", "suffix", "versions")}
    return Health(
        project=project_name(),
        classes=[str(each) for each in classes] if isinstance(classes, list) else [],
        megabytes=limits.max_megabytes,
        samples=[*samples],
        **known,
    )


def project_name() -> str:
    return __name__.partition(".")[0].replace("_", " ")


def find_samples(folder: Path, limits: Limits) -> dict[str, Path]:
    """The first files of a folder that are small enough for a request, by name."""
    files = [each for each in sorted(folder.glob("[!.]*")) if each.is_file()]
    small = [each for each in files if each.stat().st_size < limits.max_megabytes * 0.9e6]
    return {each.name: each for each in small[:SAMPLES]}


async def explain(request: Request, error: Exception) -> JSONResponse:
    """The response to a request without a file, in the format of all other errors."""
    assert isinstance(error, RequestValidationError)
    reasons = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
    detail = f"{reasons}; send a form with one file in the field 'file'"
    return JSONResponse({"detail": detail}, 422)


def plain_name(name: str) -> str:
    """A file's name without folders and special characters, at most 50 characters long.

    These have at most 200 bytes: with a few more, such as `-mask.png`, file systems accept it.
    """
    return re.sub(r"[^\w.-]", "_", re.split(r"[/\\]", name)[-1])[-50:].lstrip(".-") or "input"
