"""Large datasets: jobs and their dependencies grow with shards, and nobody reads a manifest whole to plan."""

import re
import resource
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from workflow import make_project, snakemake

from taco.data import manifest
from taco.method import controls

OVERLAY = """
suite: large
datasets:
  s4: {{root: data/large, generated: false, shards: {shards}}}
tasks: {{ms3: null, avss: null, ade_sp: null, ade_sp_semantic: null}}
banks:
  general: {{source: classes, generated: false}}
hearing: {{clips: {{}}}}
"""


def large(samples):
    """A manifest of clips of five frames."""
    number = np.arange(samples)
    clips = [f"clip{k // 5:07d}" for k in number]
    return pd.DataFrame(
        {
            "sample_id": [f"{clip}_{k % 5}" for k, clip in zip(number, clips)],
            "clip_id": clips,
            "frame": number % 5,
            "image": [f"frames/{clip}_{k % 5}.png" for k, clip in zip(number, clips)],
            "audio": [f"audio/{clip}.wav" for clip in clips],
            "start": (number % 5).astype(float),
            "duration": 1.0,
            "mask": "",
            "classes": [["dog"]] * samples,
            "class_id": np.full(samples, -1),
            "split": "test",
        }
    )


def job_counts(folder, samples, shards):
    """Jobs by rule that a dry run lists, where the manifest is there and all that follows is not."""
    results = folder / "results/large"
    path = results / "manifests/s4.parquet"
    manifest.write(large(samples), path)
    (results / "doctor.json").write_text("{}")
    (folder / "small.yaml").write_text(OVERLAY.format(shards=shards))
    # Only the footer is read: the rows may be anything.
    footer = pq.read_metadata(path)
    end = max(
        footer.row_group(g).column(c).data_page_offset for g in range(footer.num_row_groups) for c in range(3)
    )
    data = bytearray(path.read_bytes())
    data[4:end] = bytes(end - 4)
    path.write_bytes(data)
    _, output = snakemake(folder, "--dry-run", "--quiet", "rules")
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}


def test_jobs_grow_with_shards(tmp_path):
    found = job_counts(make_project(tmp_path / "project"), samples=20_000, shards=40)
    assert found["features"] == found["factorize"] == found["score"] == found["contribute"] == 40
    assert found["gather"] == 1 and "manifest" not in found
    assert found["total"] <= 4 * 40 + 15


@pytest.mark.slow
def test_a_million_samples_are_planned_in_a_minute_and_two_gigabytes(tmp_path):
    folder = make_project(tmp_path / "project")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    found = job_counts(folder, samples=1_000_000, shards=500)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{spent:.1f} s of a core, {time.perf_counter() - began:.1f} s with the manifest, {after.ru_maxrss / 1e6:.2f} GB"
    )
    assert found["features"] == 500 and found["total"] <= 4 * 500 + 15
    assert spent <= 60 and after.ru_maxrss <= 2 << 20


@pytest.mark.parametrize("count", [1, 7, 64])
def test_a_shard_is_read_by_itself(tmp_path, monkeypatch, count):
    monkeypatch.setattr(manifest, "ROWS_OF_A_GROUP", 100)
    frame = large(2_003)
    manifest.write(frame, tmp_path / "m.parquet")
    whole = manifest.read(tmp_path / "m.parquet")
    for index in range(count):
        part = manifest.read_shard(tmp_path / "m.parquet", index, count)
        pd.testing.assert_frame_equal(part, manifest.shard(whole, index, count))
    assert manifest.count(tmp_path / "m.parquet") == len(frame)


def test_a_shard_reads_its_row_groups_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "ROWS_OF_A_GROUP", 100)
    path = tmp_path / "m.parquet"
    manifest.write(large(2_000), path)
    chunk = pq.read_metadata(path).row_group(19).column(0)  # sample ids of the last rows
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data = bytearray(path.read_bytes())
    data[start + chunk.total_compressed_size - 2] ^= 1
    path.write_bytes(data)
    assert len(manifest.read_shard(path, 0, 20)) == 100
    with pytest.raises(manifest.ManifestError, match=r"m\.parquet"):
        manifest.read_shard(path, 19, 20)


def test_more_shards_than_clips_leave_some_empty(tmp_path):
    manifest.write(large(10), tmp_path / "m.parquet")
    parts = [manifest.read_shard(tmp_path / "m.parquet", index, 5) for index in range(5)]
    assert [len(part) for part in parts] == [5, 5, 0, 0, 0]
    assert parts[4].columns.tolist() == list(manifest.COLUMNS)


def test_many_clips_are_paired_within_parts(monkeypatch):
    monkeypatch.setattr(controls, "PAIRED_TOGETHER", 8)
    clips = [f"c{n}" for n in range(50)]
    classes = {clip: [f"class{n % 3}"] for n, clip in enumerate(clips)}
    pairs = controls.derangement(clips, 0, classes)
    assert sorted(pairs) == sorted(pairs.values()) == sorted(clips)
    assert all(clip != other for clip, other in pairs.items())
    assert pairs == controls.derangement(clips[::-1], 0, classes) != controls.derangement(clips, 1, classes)
    shared = sum(classes[clip] == classes[other] for clip, other in pairs.items())
    assert shared < 10  # a third by chance; a part may have most clips of one class
