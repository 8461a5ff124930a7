"""Draw docs/pictures/serve.png and site.png: the page of `serve` after a click on a sample, and a site of `docs_site`.

The second command also checks the page of `serve` with axe-core.

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
from test_serve import Browser, Server, browser  # noqa: E402


def main(axe: str | None) -> int:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "digits"
        copy = [sys.executable, "-W", "ignore", "-m", "copier", "copy", "-q", "--defaults", "--vcs-ref=HEAD"]
        answers = ["-d", "package_name=my_project", "-d", "project_name=Digits", "-d", "extras=[serve,docs_site]"]
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
            draw(page, clip, "serve.png")
            if axe:
                page.js(Path(axe).read_text() + "; 0")
                page.js("axe.run().then(found => { window.found = found }); 0")
                page.wait("'found' in window")
                found = page.js(
                    "({violations: found.violations.map(v => [v.id, v.help]), passes: found.passes.length})"
                )
                print(json.dumps(found))
                if found["violations"]:
                    return 1
        site = [sys.executable, "-m", "sphinx", "-q", "docs", "docs/_site"]
        subprocess.run(site, cwd=project, env=env, check=True)
        address = (project / "docs/_site/running.html").as_uri()
        with browser(address, Path(folder) / "second") as page:
            page.wait("document.readyState === 'complete'")
            page.call("Emulation.setDeviceMetricsOverride", width=1280, height=640, deviceScaleFactor=1, mobile=False)
            draw(page, {"x": 0, "y": 0, "width": 1280, "height": 640, "scale": 1}, "site.png")
    return 0


def draw(page: Browser, clip: dict[str, float], name: str) -> None:
    """Save a part of a page as a picture."""
    shot = base64.b64decode(page.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"])
    Image.open(io.BytesIO(shot)).quantize(64).save(ROOT / "docs/pictures" / name, optimize=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
