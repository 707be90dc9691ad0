"""Run a check inside a page in headless Chromium, from disk, without a server."""

import html
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Errors are collected before anything else of the page runs.
COLLECT = """<script>
window.checkErrors = [];
window.addEventListener("error", (event) => checkErrors.push(String(event.message || event.target.src)), true);
window.addEventListener("unhandledrejection", (event) => checkErrors.push(String(event.reason)));
console.error = (...words) => checkErrors.push(words.join(" "));
</script>"""
# For the checks: whether a picture has loaded and shows more than one colour.
VARIES = """
async function varies(picture) {
  picture.loading = "eager";
  if (!picture.complete) await new Promise((done) => { picture.onload = picture.onerror = done; });
  if (!picture.naturalWidth) return false;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return pixels.some((pixel) => pixel !== pixels[0]);
}
"""
REPORT = """<script>
window.addEventListener("load", async () => {
  let result;
  try { result = await (async () => { %s })(); } catch (error) { result = {failed: String(error)}; }
  const mark = document.createElement("pre");
  mark.id = "check-result";
  mark.textContent = JSON.stringify({result, errors: checkErrors});
  document.body.append(mark);
});
</script>"""


def find() -> str | None:
    """Path of a Chromium; the variable TACO_BROWSER comes first."""
    wanted = os.environ.get("TACO_BROWSER")
    return wanted or next((path for path in map(shutil.which, NAMES) if path), None)


def check(page: Path, script: str, seconds: int = 60) -> tuple[dict, list[str]]:
    """Open a page and run a script in it after it has loaded.

    Parameters
    ----------
    page : Path
        An HTML file; a copy with the check inside is opened beside it and removed afterwards.
    script : str
        Body of an async function that returns an object.
    seconds : int
        Virtual time that the page may take.

    Returns
    -------
    result : dict
        What the script returned; ``failed`` where it threw.
    errors : list of str
        The page's errors: exceptions, ``console.error``, files that did not load.
    """
    text = page.read_text(encoding="utf-8")
    text = text.replace("<head>", "<head>" + COLLECT, 1)
    # Scripts may hold the same words in their strings: the last one closes the page.
    before, _, after = text.rpartition("</body>")
    text = before + REPORT % script + "</body>" + after
    copy = page.with_name(f"check-{page.name}")
    copy.write_text(text, encoding="utf-8")
    try:
        with tempfile.TemporaryDirectory() as profile:
            command = [
                find(),
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--allow-file-access-from-files",
                "--autoplay-policy=no-user-gesture-required",
                "--window-size=1600,1200",
                f"--user-data-dir={profile}",
                f"--virtual-time-budget={1000 * seconds}",
                "--dump-dom",
                copy.resolve().as_uri(),
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    finally:
        copy.unlink()
    found = re.search(r'<pre id="check-result">(.*?)</pre>', done.stdout, re.DOTALL)
    if not found:
        raise AssertionError(f"{page}: the check did not finish.\n{done.stderr[-2000:]}")
    answer = json.loads(html.unescape(found.group(1)))
    return answer["result"], answer["errors"]
