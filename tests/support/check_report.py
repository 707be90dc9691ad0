"""Check a page of ``snakemake --report`` in headless Chromium: python tests/support/check_report.py report.html

Fails on an error of the page, an empty caption, or a picture without width or with one colour only.
"""

import sys
from pathlib import Path

import browser

LARGEST = 20_000_000
SCRIPT = (
    browser.VARIES
    + """
const found = [];
for (const [path, item] of Object.entries(results)) {
  const entry = {path, caption: (item.caption || "").length};
  if ((item.mime_type || "").startsWith("image/png")) {
    const picture = new Image();
    picture.src = item.data_uri;
    entry.varies = await varies(picture);
  }
  found.push(entry);
}
return {found, text: document.body.innerText};
"""
)


def problems(page: Path) -> list[str]:
    """What is wrong with a report, in words."""
    if browser.find() is None:
        return ["no Chromium is installed: install Debian's chromium, or set TACO_BROWSER"]
    result, errors = browser.check(page, SCRIPT)
    if "failed" in result:
        return [result["failed"]]
    pictures = [entry for entry in result["found"] if "varies" in entry]
    wrong = [f"error of the page: {error}" for error in errors]
    wrong += [f"{entry['path']}: no caption" for entry in result["found"] if not entry["caption"]]
    wrong += [f"{entry['path']}: blank picture" for entry in pictures if not entry["varies"]]
    if not pictures:
        wrong.append("no picture")
    if "suite" not in result["text"]:
        wrong.append("the first page does not name its suite")
    if page.stat().st_size >= LARGEST:
        wrong.append(f"{page.stat().st_size / 1e6:.1f} MB, expected less than {LARGEST / 1e6:.0f}")
    return wrong


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]))
    print("\n".join(found) or "the report is in order")
    sys.exit(bool(found))
