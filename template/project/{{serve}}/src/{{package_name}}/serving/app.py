"""The endpoints: the web page, `/predict` and `/health`."""

import base64
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, UploadFile
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, JsonValue
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..config import ROOT, locate
from ..errors import UserError
from ..exported import load

# The page is a single file: it loads nothing else and sends requests only to this server.
POLICY = "default-src 'unsafe-inline'; img-src data:; connect-src 'self'; frame-ancestors 'none'"


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
    """The model that is served, the size limit, and the versions of the libraries."""

    model: str
    suffix: str  # the most frequent one in the training data
    megabytes: float  # the largest request
    versions: dict[str, str]


class Limit:
    """Middleware that ends a request with status 413 after more than `most` bytes."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most:
                raise HTTPException(413, f"more than {self.most / 1e6:g} MB; see --max-megabytes")
            return message

        await self.app(scope, counted, send)


def build(folder: Path, megabytes: float, pt2: bool = False) -> FastAPI:
    """The app for an exported model; UserError if the folder has no usable one."""
    aside = tempfile.TemporaryDirectory()  # for the current request's file and pictures
    there, one_at_a_time = Path(aside.name), threading.Lock()
    about, task, model = load(folder, pt2, images=str(there / "images"))
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        aside.cleanup()

    # FastAPI's docs pages load scripts from a CDN, so they are off; /openapi.json stays.
    app = FastAPI(title=about.model, docs_url=None, redoc_url=None, lifespan=life)
    app.add_middleware(Limit, most=int(megabytes * 1e6))

    @app.get("/", response_class=HTMLResponse)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    @app.get("/health")
    async def health() -> Health:
        known = about.model_dump(include={"model", "suffix", "versions"})
        return Health(megabytes=megabytes, **known)

    @app.post("/predict")
    def predict(file: UploadFile) -> Answer:  # not async, so that FastAPI runs it in a thread
        with one_at_a_time:
            started = time.perf_counter()
            path = there / "input" / plain_name(file.filename or "")
            path.parent.mkdir()
            try:
                with open(path, "wb") as copy:
                    shutil.copyfileobj(file.file, copy)
                made = [(each, task.sentence(each)) for each in task.predict(model, [str(path)])]
                pictures = {
                    each.relative_to(there).as_posix(): as_uri(each)
                    for each in sorted(there.glob("images/**/*.png"))
                }
            except UserError as error:
                raise HTTPException(422, without(there, str(error))) from error
            finally:
                for each in there.iterdir():
                    shutil.rmtree(each)
        predictions = [Prediction(values=v, sentence=s) for v, s in without(there, made)]
        seconds = time.perf_counter() - started
        return Answer(predictions=predictions, pictures=pictures, seconds=seconds)

    return app


def plain_name(name: str) -> str:
    """A file's name without folders and special characters, at most 80 characters long."""
    return re.sub(r"[^\w.-]", "_", re.split(r"[/\\]", name)[-1])[-80:].lstrip(".-") or "input"


def without(there: Path, value: Any) -> Any:
    """Remove this machine's folders from all texts in nested values."""
    if isinstance(value, dict):
        return {key: without(there, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without(there, item) for item in value]
    if isinstance(value, str):
        for folder in (there / "input", there, ROOT):
            for path in (folder, locate(folder, inside=True)):
                value = value.replace(f"{path}{os.sep}", "")
    return value


def as_uri(picture: Path) -> str:
    """A PNG file as a `data:` URI."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
