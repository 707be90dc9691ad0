"""Check that everything the suite needs is there and whole, before anything is computed."""

import io
import json
import logging
from pathlib import Path

from job import run
from rich.console import Console

from taco.staging import doctor

log = logging.getLogger("taco")


def unchanged(earlier, state):
    """What an earlier check (a list of none or one) of the very same files and settings has written, or None."""
    texts = (Path(path).read_text(encoding="utf-8") for path in earlier)
    return next((text for text in texts if json.loads(text)["state"] == state), None)


def main(snakemake):
    state = json.loads(json.dumps(doctor.state(snakemake.config)))
    known = unchanged(snakemake.input, state)
    if known is not None:
        Path(snakemake.output[0]).write_text(known, encoding="utf-8")
        return
    findings = doctor.examine(snakemake.config) + doctor.disk(snakemake.config)
    text = io.StringIO()
    doctor.show(findings, snakemake.config["suite"], Console(file=text, width=160))
    log.log(logging.WARNING if doctor.exit_code(findings) else logging.INFO, "\n%s", text.getvalue())
    if doctor.exit_code(findings):
        raise doctor.NotReadyError("The run cannot succeed as things are; the table above says what to do.")
    records = json.dumps({"state": state, "findings": doctor.as_records(findings)}, indent=2)
    Path(snakemake.output[0]).write_text(records + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main, snakemake)
