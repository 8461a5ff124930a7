"""The endpoints: a page for people, `/predict` for a file, `/health`."""

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

# The page is one file: it loads nothing, and asks nobody but this server.
POLICY = "default-src 'unsafe-inline'; img-src data:; connect-src 'self'; frame-ancestors 'none'"


class Prediction(BaseModel):
    """What `run --json` gives, and what `run` says."""

    values: dict[str, JsonValue]
    sentence: str


class Answer(BaseModel):
    """The predictions for a file, and the pictures drawn of them: each name with a `data:` URI."""

    predictions: list[Prediction]
    pictures: dict[str, str]
    seconds: float


class Health(BaseModel):
    """That it works, and with what."""

    model: str
    suffix: str  # of most files that the model was trained on
    megabytes: float  # the most that a request may have
    versions: dict[str, str]


class Limit:
    """Ends a request with status 413 once more than `most` bytes have come."""

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
    """The app for an exported model; UserError if the folder holds none that can be used."""
    aside = tempfile.TemporaryDirectory()  # for the file under way and its pictures
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
    def predict(file: UploadFile) -> Answer:  # not async: FastAPI gives it a thread
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
    """A file's name without folders, and without what could mean something to a system."""
    return re.sub(r"[^\w.-]", "_", re.split(r"[/\\]", name)[-1])[-80:].lstrip(".-") or "input"


def without(there: Path, value: Any) -> Any:
    """Text, or what holds some, without the folders of this machine."""
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
    """A PNG as a `data:` address."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
