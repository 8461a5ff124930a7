"""The service compared with a handler written by hand: requests a second, and the time of `/health`, also in attacks.

    .venv/bin/python bench/serve.py [SECONDS]

The handler is FastAPI and the same ONNX model in one file, with neither limits nor a page; uvicorn runs it in one
process and in two, as many as the service has workers. All get the same image, over 1, 8 and 64 connections, SECONDS
each (5), in turns: once for the small CNN of the default project on 20 x 20 pixels, and once for a ResNet on 160 x 160.
Another process requests `/health` every 20 ms. The attacks are those that once stopped the service: large images, long
texts and tables, request headers and uploads that never end.
"""

import asyncio
import io
import itertools
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LARGE = ["model.name=resnet", "model.args={width: 32}", "data.image_size=160"]
BY_HAND = """
import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("exports/a-run/model.onnx")
name, size = session.get_inputs()[0].name, SIZE
app = FastAPI()


@app.get("/health")
def health():
    return {"status": "ok"}


@app.post("/predict")
def predict(file: UploadFile):
    image = ImageOps.fit(Image.open(file.file).convert("L"), (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32)[None, None] / 255
    (logits,) = session.run(None, {name: pixels})
    shares = np.exp(logits[0] - logits[0].max())
    shares /= shares.sum()
    return {"prediction": int(shares.argmax()), "probabilities": shares.tolist()}


if __name__ == "__main__":
    uvicorn.run("by_hand:app", port=int(sys.argv[1]), workers=int(sys.argv[2]), log_level="warning")
"""


def project(kind: str, folder: Path, *settings: str, size: int = 20) -> Path:
    """A project with a model that was trained on two batches, and exported."""
    made, python = folder / kind, sys.executable
    folder.mkdir(exist_ok=True)
    answers = ["-d", f"data_kind={kind}", "-d", "package_name=my_project", "-d", "extras=[serve]"]
    copy = [python, "-W", "ignore", "-m", "copier", "copy", "-q", "--defaults", "--vcs-ref=HEAD"]
    env = os.environ | {"PYTHONPATH": str(made / "src"), "OMP_NUM_THREADS": "1"}
    subprocess.run([*copy, *answers, ROOT, made], check=True)
    train = ["train", "configs/train.yaml", "run.name=a-run", "train.epochs=1", "train.limit_batches=2", *settings]
    for command in (train, ["export", "--only", "onnx"]):
        subprocess.run([python, "-m", "my_project", *command], cwd=made, env=env, check=True, capture_output=True)
    (made / "by_hand.py").write_text(BY_HAND.replace("SIZE", str(size)))
    return made


@contextmanager
def serving(made: Path, *command: str) -> Iterator[int]:
    """Start a server; yields its port once `/health` answers."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = command or ("-m", "my_project", "serve", "exports/a-run", "--port", "PORT")
    words = [sys.executable, *(word.replace("PORT", str(port)) for word in command)]
    env = os.environ | {"PYTHONPATH": str(made / "src"), "OMP_NUM_THREADS": "1"}
    files: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with subprocess.Popen(words, cwd=made, env=env, **files) as server:
        try:
            while True:
                try:
                    asyncio.run(call(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
                    break
                except OSError:
                    time.sleep(0.1)
            time.sleep(1)
            yield port
        finally:
            os.killpg(server.pid, signal.SIGKILL)


def form(name: str, content: bytes) -> bytes:
    """A complete request to `/predict` with a file."""
    edge = b"5f2c1b"
    body = b'--%b\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n' % (edge, name.encode())
    body += content + b"\r\n--%b--\r\n" % edge
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=%b\r\n" % edge
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def answer(reader: asyncio.StreamReader) -> int:
    """Read a response; returns its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    assert length, head
    await reader.readexactly(int(length[1]))
    return int(head.split()[1])


async def call(port: int, request: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await answer(reader)
    finally:
        writer.close()


async def load(port: int, request: bytes, connections: int, seconds: float) -> tuple[float, list[float]]:
    """Requests per second, and the seconds that each took."""
    times: list[float] = []
    start = time.perf_counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < start + seconds:
            began = time.perf_counter()
            writer.write(request)
            status = await answer(reader)
            assert status == 200, status
            times.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return len(times) / (time.perf_counter() - start), sorted(times)


WATCH = """
import http.client, sys, time
port, times = int(sys.argv[1]), []
print(flush=True)
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
while sys.argv[2] != "stop" and time.monotonic() < float(sys.argv[2]):
    began = time.perf_counter()
    connection.request("GET", "/health")
    response = connection.getresponse()
    response.read()
    assert response.status == 200, response.status
    times.append(time.perf_counter() - began)
    time.sleep(0.02)
times.sort()
print(len(times), times[len(times) * 99 // 100], times[-1])
"""


@contextmanager
def watching(port: int, seconds: float) -> Iterator[dict[str, float]]:
    """Request `/health` during the block; the yielded dict then has the 99th percentile and the maximum."""
    found: dict[str, float] = {}
    words = [sys.executable, "-c", WATCH, str(port), str(time.monotonic() + seconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        yield found
        count, found["p99"], found["max"] = map(float, process.stdout.read().split())
        assert count


def png(width: int, height: int, mode: int = 0) -> bytes:
    """A black PNG: 1 bit per pixel, or RGBA (mode 6)."""
    rows = zlib.compress(bytes((width + 7) // 8 + 1 if mode == 0 else 4 * width + 1) * height)
    depth = b"\x01\x00" if mode == 0 else b"\x08\x06"
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + depth + bytes(3)
    parts = {b"IHDR": head, b"IDAT": rows, b"IEND": b""}
    chunks = (len(p).to_bytes(4, "big") + n + p + zlib.crc32(n + p).to_bytes(4, "big") for n, p in parts.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


async def attack(port: int, requests: list[bytes]) -> str:
    """Send all requests at once and wait; returns the counts by status, `closed` where no response came."""

    async def one(request: bytes) -> str:
        try:
            return str(await call(port, request))
        except (asyncio.IncompleteReadError, OSError):
            return "closed"

    statuses = await asyncio.gather(*map(one, requests))
    return ", ".join(f"{len([*same])} x {status}" for status, same in itertools.groupby(sorted(statuses)))


def batching(made: Path, size: int, rounds: int = 15) -> float:
    """The seconds of a batch of 8 on one thread, relative to eight images one by one: the median of the rounds."""
    import numpy as np
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(made / "exports" / "a-run" / "model.onnx", options)
    name = session.get_inputs()[0].name
    images = np.random.default_rng(0).random((8, 1, size, size), np.float32)
    calls, found = max(1, 4000 // size**2), []
    for _ in range(rounds):
        began = time.perf_counter()
        for each in np.tile(images, (calls, 1, 1, 1)):
            session.run(None, {name: each[None]})
        between = time.perf_counter()
        for _ in range(calls):
            session.run(None, {name: images})
        found.append((time.perf_counter() - between) / (between - began))
    return statistics.median(found)


def main(seconds: float) -> None:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        digits = project("image_classification", Path(folder))
        image = io.BytesIO()
        Image.open(next((digits / "images" / "sample").iterdir())).save(image, "PNG")
        request, rows = form("a.png", image.getvalue()), []
        contenders = {
            "by hand": ("by_hand.py", "PORT", "1"),
            "by hand, two": ("by_hand.py", "PORT", "2"),
            "service": (),
        }
        models = {"CNN": digits, "ResNet": project("image_classification", Path(folder) / "large", *LARGE, size=160)}
        for (model, made), size in zip(models.items(), (20, 160), strict=True):
            print(f"{model}: a batch of 8 takes {batching(made, size):.2f} times as long as 8 images one by one")
        print()
        for (model, made), count in itertools.product(models.items(), (1, 8, 64)):
            for name, command in contenders.items():
                with serving(made, *command) as port:
                    asyncio.run(load(port, request, count, 1))
                    with watching(port, seconds) as health:
                        speed, times = asyncio.run(load(port, request, count, seconds))
                    last = times[len(times) * 99 // 100]
                    rows.append((model, count, name, speed, times[len(times) // 2], last, health))
        print("| model | connections | server | requests a second | median | p99 | `/health`: p99 | longest |")
        print("|---|---|---|---|---|---|---|---|")
        for model, count, name, speed, median, p99, health in rows:
            figures = [f"{1000 * x:.0f} ms" for x in (median, p99, health["p99"], health["max"])]
            print(f"| {model} | {count} | {name} | {speed:.0f} | {' | '.join(figures)} |")

        words = b"one two three\n" * 22_000
        table = b"carat,cut,color,clarity,depth,table,x,y,z,price\n" + b"1,Ideal,E,SI1,61,55,4,4,2,900\n" * 150_000
        half = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
        attacks = {
            ("image_segmentation", "4 PNGs of 4,000 x 4,000 pixels"): [form("a.png", png(4000, 4000))] * 4,
            ("image_classification", "4 RGBA PNGs of 9,000 x 9,000"): [form("a.png", png(9000, 9000, 6))] * 4,
            ("image_classification", "1,100 request headers that never end"): [half] * 1100,
            ("image_classification", "150 uploads that never end"): [request[:-100]] * 150,
            ("text_classification", "4 texts of 308 kB"): [form("a.txt", words)] * 4,
            ("tabular", "4 tables of 4.5 MB"): [form("a.csv", table)] * 4,
        }
        print("\n| attack | answers | seconds | `/health`: p99 | longest |\n|---|---|---|---|---|")
        for kind, group in itertools.groupby(attacks.items(), key=lambda item: item[0][0]):
            made = digits if kind == "image_classification" else project(kind, Path(folder))
            with serving(made) as port:
                for (_, name), requests in group:
                    with watching(port, 6) as health:
                        began = time.perf_counter()
                        found = asyncio.run(attack(port, requests))
                        taken = time.perf_counter() - began
                    figures = [f"{1000 * x:.0f} ms" for x in (health["p99"], health["max"])]
                    print(f"| {kind}: {name} | {found} | {taken:.1f} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
