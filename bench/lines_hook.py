"""Record the lines that a process runs; each Python process of `bench/lines.py` starts this.

Other kinds of data have other files at the same paths of `src/`, so only files with the reference's content count.
"""

import atexit
import json
import os
from pathlib import Path

import coverage

ROOTS = ("extensions", "src/my_project")


def start(reference: Path, folder: Path) -> None:
    patterns = [f"**/{root}/{folders}*.py" for root in ROOTS for folders in ("", "**/")]  # * matches no slash
    tracer = coverage.Coverage(data_file=None, include=patterns, config_file=False, messages=False)
    tracer.set_option("run:disable_warnings", ["no-data-collected", "module-not-measured", "already-imported"])
    tracer.start()

    def save() -> None:
        tracer.stop()
        data = tracer.get_data()
        found: dict[str, set[int]] = {}
        for path in data.measured_files():
            for root in ROOTS:
                if f"/{root}/" in path:
                    name = f"{root}/{path.rpartition(f'/{root}/')[2]}"
                    same = reference / name
                    if same.exists() and Path(path).exists() and same.read_bytes() == Path(path).read_bytes():
                        found.setdefault(name, set()).update(data.lines(path) or ())
        if found:
            text = json.dumps({name: sorted(lines) for name, lines in found.items()})
            (folder / f"{os.getpid()}-{os.urandom(6).hex()}.json").write_text(text)

    atexit.register(save)


if "LINES_OF" in os.environ:
    start(Path(os.environ["LINES_OF"]), Path(os.environ["LINES_TO"]))
