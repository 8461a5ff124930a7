"""The page of `serve`, after a click on a sample: draws docs/pictures/serve.png, and can have axe-core check the page.

    .venv/bin/python bench/page.py
    npm install --prefix build/axe axe-core && .venv/bin/python bench/page.py build/axe/node_modules/axe-core/axe.min.js

Needs Chromium. The default project is trained as its config says, exported and served.
"""

import base64
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from test_serve import Server, browser  # noqa: E402


def main(axe: str | None) -> int:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "digits"
        copy = [sys.executable, "-W", "ignore", "-m", "copier", "copy", "-q", "--defaults", "--vcs-ref=HEAD"]
        answers = ["-d", "package_name=my_project", "-d", "project_name=Digits", "-d", "extras=[serve]"]
        subprocess.run([*copy, *answers, ROOT, project], check=True)
        env = os.environ | {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
        for words in (["train", "configs/train.yaml", "run.name=a-run"], ["export", "--only", "onnx"]):
            subprocess.run([sys.executable, "-m", "my_project", *words], cwd=project, env=env, check=True)
        with Server(project, Path(folder)) as server, browser(server.address, Path(folder) / "profile") as page:
            page.wait("document.querySelectorAll('#samples button').length")
            page.js("document.querySelector('#samples button').click()")
            page.wait("document.querySelectorAll('article').length")
            size = page.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 60, "y": 0, "width": size["width"] - 120, "height": size["height"], "scale": 1}
            picture = page.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
            shot = base64.b64decode(picture)
            Image.open(io.BytesIO(shot)).quantize(64).save(ROOT / "docs/pictures/serve.png", optimize=True)
            if axe:
                page.js(Path(axe).read_text() + "; 0")
                page.js("axe.run().then(found => { window.found = found }); 0")
                page.wait("'found' in window")
                found = page.js(
                    "({violations: found.violations.map(v => [v.id, v.help]), passes: found.passes.length})"
                )
                print(json.dumps(found))
                return len(found["violations"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
