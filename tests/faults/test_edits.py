"""A dataset's file that is edited after a run: planning looks into no dataset, `taco verify` names the file."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner
from workers import jobs, plan
from workflow import RESULTS, planned, table_bytes

from taco.cli import app


def edit_mask(path):
    truth = np.asarray(Image.open(path)).copy()
    Image.fromarray(np.ascontiguousarray(truth[::-1, ::-1])).save(path)


def edit_sound(path):
    wave, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, wave[::-1], rate, subtype="PCM_16")


def edit_words(path):
    path.write_text(path.read_text().replace("bell", "ball"))


EDITS = {"masks": ("png", edit_mask), "audio": ("wav", edit_sound)}


def verify(folder, monkeypatch):
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["verify", "--quiet", "--configfile", "small.yaml"])
    return done.exit_code, done.output


def files_of(folder, kind):
    """Masks or sounds that the manifest names."""
    from taco.data import manifest

    frame = manifest.read(folder / RESULTS / "manifests/s4.parquet")
    return sorted(set(frame[{"masks": "mask", "audio": "audio"}[kind]]))


@pytest.mark.slow
@pytest.mark.parametrize("keep_time", [True, False])
@pytest.mark.parametrize("kind", EDITS)
def test_an_edited_file_is_named_and_its_dataset_made_anew(
    workers, copy, undisturbed, monkeypatch, kind, keep_time
):
    name = files_of(copy, kind)[0]
    path, before = copy / name, (copy / name).stat()
    EDITS[kind][1](path)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not planned(copy, "--until", "tables")
    code, output = verify(copy, monkeypatch)
    assert code == 1 and f"{name}: expected the" in output and "it was edited since" in output
    # The remedy that it names.
    (copy / RESULTS / "manifests/s4.parquet").unlink()
    plan(copy, {})
    workers.snakemake(copy, "--until", "tables")
    assert {script for script, *_ in jobs(copy)} >= {"manifest", "features", "score", "tables"}
    assert table_bytes(copy) != table_bytes(undisturbed[0])
    code, output = verify(copy, monkeypatch)
    assert code == 0, output


@pytest.mark.slow
def test_edited_words_and_metadata_are_named(copy, monkeypatch):
    monkeypatch.chdir(copy)
    code, output = verify(copy, monkeypatch)
    assert code == 0, output
    words = copy / RESULTS / "world/class_labels_indices.csv"
    edit_words(words)
    (metadata,) = (copy / RESULTS / "world/s4").rglob("*.csv")
    sample = Path(files_of(copy, "audio")[0]).stem
    lines = metadata.read_text().splitlines()
    metadata.write_text("\n".join(line for line in lines if sample not in line) + "\n")
    code, output = verify(copy, monkeypatch)
    assert code == 1 and "text.h5: expected the words of s4/general" in output
    assert "manifests/s4.parquet: expected the" in output and "Traceback" not in output
