"""Check a gallery in headless Chromium: python tests/support/check_gallery.py results/miniature/gallery

Fails on an error of the page, a picture without width or with one colour only, a player without a sound, or a heading
that does not sort.
"""

import sys
from pathlib import Path

import browser

PICTURES = (
    browser.VARIES
    + """
const pictures = [...document.images];
const dull = [];
for (const picture of pictures) if (!(await varies(picture))) dull.push(picture.src);
const players = [...document.querySelectorAll("audio")];
const lengths = [];
for (const player of players) {
  // The media pipeline does not run in virtual time: the file is read and its header looked at.
  const request = new XMLHttpRequest();
  request.open("GET", player.currentSrc || player.src);
  request.responseType = "arraybuffer";
  await new Promise((done) => { request.onloadend = done; request.send(); });
  if (!request.response || request.response.byteLength < 44) { lengths.push(0); continue; }
  const header = new DataView(request.response);
  const playable = player.canPlayType("audio/wav") !== "" && player.controls && header.getUint32(0) === 0x52494646;
  lengths.push(playable ? header.getUint32(40, true) / header.getUint32(28, true) : 0);
}
"""
)
SORTING = """
const values = (column, shown) => [...document.querySelectorAll("#samples tbody tr")]
  .filter((row) => !row.hidden).map((row) => row.cells[column].dataset.value);
const orders = [];
[...document.querySelectorAll("#samples thead th")].forEach((heading, column) => {
  const button = heading.querySelector("button");
  if (!button) return;
  const numeric = heading.classList.contains("number");
  for (const direction of ["ascending", "descending"]) {
    button.click();
    orders.push({column, numeric, direction, marked: heading.getAttribute("aria-sort"), values: values(column)});
  }
});
const task = document.querySelector("#task");
task.value = task.options[task.options.length - 1].value;
task.dispatchEvent(new Event("change"));
const filtered = document.querySelector("#count").textContent;
return {pictures: pictures.length, dull, players: players.length, lengths, orders, filtered};
"""
PAGE = "return {pictures: pictures.length, dull, lengths};"


def unsorted(orders: list[dict]) -> list[str]:
    """What is wrong with the orders after a click on each heading, and after another one."""
    wrong = []
    for up, down in zip(orders[::2], orders[1::2], strict=True):
        known = [value for value in up["values"] if value != ""]
        empty = [""] * (len(up["values"]) - len(known))
        keys = [float(value) for value in known] if up["numeric"] else known
        # Texts follow the browser's own order of letters; here only equal ones must stand together.
        places = keys if up["numeric"] else [known.index(value) for value in known]
        turned = [float(v) if up["numeric"] else v for v in down["values"][: len(known)]]
        if (
            (up["marked"], down["marked"]) != ("ascending", "descending")
            or up["values"] != known + empty
            or turned != keys[::-1]
            or down["values"][len(known) :] != empty
            or places != sorted(places)
        ):
            wrong.append(f"column {up['column']} does not sort")
    return wrong


def problems(folder: Path) -> list[str]:
    """What is wrong with a gallery's index and its first sample's page, in words."""
    if browser.find() is None:
        return ["no Chromium is installed: install Debian's chromium, or set TACO_BROWSER"]
    wrong = []
    first = next(path for path in sorted(folder.glob("*/*.html")))
    for page, script in ((folder / "index.html", PICTURES + SORTING), (first, PICTURES + PAGE)):
        result, errors = browser.check(page, script)
        wrong += [f"{page.name}: {error}" for error in errors]
        if "failed" in result:
            wrong.append(f"{page.name}: {result['failed']}")
            continue
        wrong += [f"{page.name}: blank picture {name}" for name in result["dull"]]
        wrong += [] if result["pictures"] else [f"{page.name}: no picture"]
        if not result["lengths"] or min(result["lengths"]) <= 0:
            wrong.append(f"{page.name}: a player without a sound")
        wrong += unsorted(result.get("orders", []))
    return wrong


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]))
    print("\n".join(found) or "the gallery is in order")
    sys.exit(bool(found))
