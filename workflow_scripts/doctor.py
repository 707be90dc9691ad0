"""Check that everything the suite needs is there and whole, before anything is computed."""

import io
import json
import logging
from pathlib import Path

from job import run
from rich.console import Console

from taco.runtime import atomic_write
from taco.staging import doctor

log = logging.getLogger("taco")


def unchanged(earlier, state):
    """What an earlier check (a list of none or one) of the very same files and settings has written, or None."""
    texts = (Path(path).read_text(encoding="utf-8") for path in earlier)
    return next((text for text in texts if json.loads(text)["state"] == state), None)


def write(path, text):
    """Write the findings, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def main(snakemake):
    path = snakemake.output[0]
    state = json.loads(json.dumps(doctor.state(snakemake.config)))
    known = unchanged(snakemake.input, state)
    if known is not None:
        write(path, known)
        return
    findings = doctor.examine(snakemake.config) + doctor.disk(snakemake.config)
    text = io.StringIO()
    doctor.show(findings, snakemake.config["suite"], Console(file=text, width=160))
    log.log(logging.WARNING if doctor.exit_code(findings) else logging.INFO, "\n%s", text.getvalue())
    if doctor.exit_code(findings):
        raise doctor.NotReadyError("The run cannot succeed as things are; the table above says what to do.")
    records = json.dumps({"state": state, "findings": doctor.as_records(findings)}, indent=2)
    write(path, records + "\n")


if __name__ == "__main__":
    run(main, snakemake)
