"""Whatever files hold, it ends in an answer or in one error of the package's own; nothing is written elsewhere, nothing run.

Bounded and repeatable: a few examples of each kind here, thousands by `pytest -m slow`.
"""

import contextlib
import copy
import io
import json
import math
import os
import re
import sys
import unicodedata

import h5py
import numpy as np
import pytest
import soundfile
import trees
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from taco import suites
from taco.cache import receipts
from taco.cache.hdf5 import CacheWriter, open_cache
from taco.data import datasets, manifest, media
from taco.figures import drawing
from taco.results import extended, pages, prediction_files, tables
from taco.segmenting import asking
from taco.staging import sources

pytestmark = pytest.mark.filterwarnings("ignore")
EXAMPLES = [pytest.param(15, id="few"), pytest.param(1500, id="many", marks=pytest.mark.slow)]
# Of names: what shells, paths, pages, tables and terminals take for more than a name.
SIGNS = "a B é 名 \u202e\u0301 ' \" ` $ | & ; < > \\ / .. ~ * ? # % { } ( ) [ ] , : = @ ! - _ \t\n\r\x00\x1b\ufeff".replace(
    " ", ""
)
names = st.text(st.sampled_from(sorted(set(SIGNS)) + [" "]), max_size=12) | st.sampled_from(
    [
        "../up",
        "/etc/passwd",
        "-rf",
        "$(id)",
        "a|b",
        "<script>",
        "=1+1",
        "NA",
        "nan",
        "",
        ".",
        "..",
        "x" * 300,
        "\ud800",
    ]
)
numbers = st.sampled_from([0, -1, 1, 2, 0.5, -0.0, 1e308, 10**30, -(2**63), 2**64]) | st.floats()
scalars = st.none() | st.booleans() | numbers | names
anything = st.recursive(
    scalars, lambda part: st.lists(part, max_size=3) | st.dictionaries(names, part, max_size=3), max_leaves=6
)


# ---------------------------------------------------------------- what is allowed


WRITES = {
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "shutil.rmtree",
}
RUNS = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
}


class Watch:
    """Sees what Python itself is asked for: files written or taken away, and programs or code started."""

    def __init__(self):
        self.allowed, self.seen = None, []
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        if self.allowed is None:
            return
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if writes and isinstance(path, str | bytes) and not self.inside(path):
                self.seen.append((event, path))
        elif (
            event in WRITES
            and not all(self.inside(p) for p in arguments[:2] if isinstance(p, str | bytes))
            or event in RUNS
        ):
            self.seen.append((event, arguments))

    def inside(self, path):
        return os.path.abspath(os.fsdecode(path)).startswith((str(self.allowed), "/dev/null", "/dev/shm"))


WATCH = Watch()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """All that an attempt may write is below this folder."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    WATCH.allowed = None


def survive(folder, function, *arguments, **named):
    """Call, and let errors of the package's own pass that say something; None then."""
    WATCH.allowed, WATCH.seen = folder, []
    try:
        return function(*arguments, **named)
    except Exception as error:
        if not type(error).__module__.startswith("taco.") or len(str(error)) < 20:
            raise
    finally:
        WATCH.allowed = None
        assert WATCH.seen == []


def fuzz(examples, *strategies):
    """Run a function on made-up data, the same at every run."""
    chosen = settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink]
        if examples > 100
        else [Phase.explicit, Phase.generate],
    )
    return lambda function: chosen(given(*strategies)(function))()


def edits(content):
    """Content with bytes changed, cut off or put in; mostly at its start, where headers are."""
    places = st.integers(0, min(len(content), 128)) | st.integers(0, len(content))
    one = st.tuples(
        st.sampled_from(["change", "cut", "insert", "erase"]), places, st.binary(min_size=1, max_size=8)
    )
    return st.lists(one, min_size=1, max_size=4).map(lambda changes: edited(content, changes))


def edited(content, changes):
    for kind, place, given_bytes in changes:
        behind = {"change": len(given_bytes), "cut": len(content), "insert": 0, "erase": 8}[kind]
        middle = given_bytes if kind in ("change", "insert") else b""
        content = content[:place] + middle + content[place + behind :]
    return content


# ---------------------------------------------------------------- configuration


def places(value, path=()):
    """Every place of a configuration."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from places(item, (*path, key))


CONFIG = yaml.safe_load(suites.DEFAULTS.read_text(encoding="utf-8"))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_configurations(examples, folder):
    where = st.sampled_from(list(places(CONFIG)))

    @fuzz(3 * examples, st.lists(st.tuples(where, anything, st.booleans(), names), min_size=1, max_size=3))
    def attempt(changes):
        config = copy.deepcopy(CONFIG)
        for path, value, under, name in changes:
            place = config
            for key in path[:-1]:
                place = place[key] if isinstance(place, dict) and key in place else {}
            if isinstance(place, dict):
                place[name if under else path[-1]] = value
        survive(folder, suites.prepare, config)


YAML_TEXTS = [
    "a: 2001-99-99", "&a [*a]", "suite: &a {b: *a}", "[" * 3000, "{a: " * 3000, "? [1]\n: 2", "!!python/object/apply:os.system [id]",
    "a: !!binary x", "a: !!int x", "a: 1:99999999999999999999", "- 1", "suite", "\x00", "a: \ud800", "<<: 1", "tasks: {s4: 1}",
    "only_staged: true\ntasks: {s4: {dataset: []}}", "only_staged: true\ndatasets: 1", "models: 1", "tables: 1", "0x: 0o9",
]  # fmt: skip


@pytest.mark.parametrize("examples", EXAMPLES)
def test_texts_of_configurations(examples, folder):
    texts = st.sampled_from(YAML_TEXTS) | st.text(
        st.sampled_from("ab: -[]{}&*!|>'\"#%,?\n\t01.~"), max_size=40
    )

    def attempt(text):
        path = folder / "own.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        survive(folder, suites.read, [path])
        survive(folder, sources.read_catalogue, path)
        survive(folder, tables.load_reported, path)

    for text in YAML_TEXTS:
        attempt(text)
    fuzz(examples, texts)(attempt)


# ---------------------------------------------------------------- datasets


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("reader", trees.WRITERS)
def test_tables_of_datasets(reader, examples, folder):
    dataset = trees.WRITERS[reader](folder / "data")
    table = next(path for path in sorted((folder / "data").rglob("*.csv")))
    content = table.read_bytes()
    lines = content.decode().splitlines()
    cells = st.lists(names, min_size=1, max_size=len(lines[0].split(",")))
    rows = st.lists(cells, min_size=1, max_size=3).map(
        lambda rows: (lines[0] + "\n" + "\n".join(map(",".join, rows))).encode("utf-8", "surrogatepass")
    )

    @fuzz(examples, edits(content) | rows)
    def attempt(text):
        table.write_bytes(text)
        frame = survive(folder, manifest.build, dataset, require_files=False)
        if frame is not None:
            survive(folder, manifest.check, frame, dataset, workers=1)
        survive(folder, datasets.class_names, dataset)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_labels_of_avss(examples, folder):
    dataset = trees.avss(folder / "data")
    path = folder / "data/label2idx.json"

    @fuzz(examples, anything.map(lambda value: json.dumps(value).encode()) | edits(path.read_bytes()))
    def attempt(text):
        path.write_bytes(text)
        survive(folder, datasets.class_names, dataset)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "bmp", "webp", "tiff"])
def test_pictures(kind, examples, folder):
    dataset, stream = trees.s4(folder / "data"), io.BytesIO()
    record = trees.rows(dataset)[0]
    image = Image.fromarray(trees.square((24, 24)).astype(np.uint8) * 255)
    (image.convert("RGB") if kind == "jpg" else image).save(stream, "jpeg" if kind == "jpg" else kind)
    path = folder / f"picture.{kind}"

    @fuzz(examples, edits(stream.getvalue()))
    def attempt(content):
        path.write_bytes(content)
        survive(folder, media.read_image, path)
        survive(folder, datasets.read_mask, {**record, "mask": str(path)}, dataset, 16)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "au", "aiff"])
def test_sounds(kind, examples, folder):
    stream = io.BytesIO()
    soundfile.write(stream, np.sin(np.arange(3200) / 9), 16000, format=kind)
    path = folder / f"sound.{kind}"
    times = st.sampled_from([(0.0, math.nan), (0.0, 1.0), (0.1, 0.1), (5.0, 1.0)])

    @fuzz(examples, edits(stream.getvalue()), times)
    def attempt(content, time):
        path.write_bytes(content)
        survive(folder, media.read_sound, path, *time, 8000)


# ---------------------------------------------------------------- files between stages


@pytest.mark.parametrize("examples", EXAMPLES)
def test_manifests(examples, folder):
    frame = manifest.build(trees.s4(folder / "data"))
    manifest.write(frame, folder / "good.parquet")
    path, content = folder / "manifest.parquet", (folder / "good.parquet").read_bytes()
    columns = st.sampled_from(list(frame.columns))

    @fuzz(examples, edits(content) | st.tuples(columns, scalars))
    def attempt(change):
        if isinstance(change, bytes):
            path.write_bytes(change)
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            table = pq.read_table(folder / "good.parquet")
            try:
                column = pa.array([change[1]] * len(frame))
            except (pa.ArrowException, OverflowError, UnicodeError):
                return
            pq.write_table(table.set_column(table.column_names.index(change[0]), change[0], column), path)
        found = survive(folder, manifest.read, path)
        survive(folder, manifest.read_masks, path)
        if found is not None:
            survive(
                folder, manifest.check, found, {"reader": "s4", "root": "data", "split": "test"}, workers=1
            )


def write_cache(path):
    with CacheWriter(path, "features", ["a", "b"], {"code": "x"}) as writer:
        for index in range(2):
            writer.put("tokens", index, np.arange(6, dtype=np.float32).reshape(2, 3))


def read_cache(path):
    with open_cache(path, "features", {"code": "x"}) as cache:
        return [cache[name][index] for name in cache for index in range(len(cache.sample_ids))]


@pytest.mark.parametrize("examples", EXAMPLES)
def test_attributes_of_caches(examples, folder):
    write_cache(folder / "good.h5")
    content, path = (folder / "good.h5").read_bytes(), folder / "cache.h5"
    with h5py.File(folder / "good.h5") as file:
        header = json.loads(file.attrs["attributes"])
    values = st.one_of(
        anything.map(json.dumps), st.dictionaries(st.sampled_from(list(header)), anything).map(lambda d: json.dumps({**header, **d})),
        numbers.filter(lambda x: abs(x) < 2**63), st.binary(max_size=8).map(lambda b: np.void(b or b"0")), st.just("[" * 3000),
        st.just(np.zeros((2, 0))),
    )  # fmt: skip

    @fuzz(
        2 * examples,
        st.sampled_from(["attributes", "datasets", "sha256", "sample_ids", "checksum", "tokens"]),
        values,
    )
    def attempt(key, value):
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            if key in file.attrs:
                file.attrs[key] = value
            else:
                key = {"checksum": "checksum/tokens"}.get(key, key)
                with contextlib.suppress(KeyError):
                    del file[key]
                if isinstance(value, str) and value.startswith("[["):
                    file.create_group(key)
                else:
                    with contextlib.suppress(TypeError, ValueError):
                        file[key] = value
        survive(folder, read_cache, path)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_receipts(examples, folder):
    path = folder / "0.json"
    receipts.write(path, {("general", "proposed"): folder / "a.h5"}, "x")

    @fuzz(
        examples, edits(path.read_bytes()) | anything.map(lambda value: json.dumps({"runs": value}).encode())
    )
    def attempt(content):
        path.write_bytes(content)
        survive(folder, receipts.read, path)
        survive(folder, receipts.state, path)


# ---------------------------------------------------------------- what people bring


@pytest.mark.parametrize("examples", EXAMPLES)
def test_predictions_as_text(examples, folder):
    path = folder / "a.json"
    counts = (
        st.lists(numbers, max_size=4)
        | st.text(st.characters(min_codepoint=32, max_codepoint=130), max_size=9)
        | anything
    )
    mask = st.fixed_dictionaries({"size": st.just([4, 4]) | anything, "counts": st.just([3, 13]) | counts})
    list_of = st.lists(st.fixed_dictionaries({"category_id": scalars, "segmentation": mask}), max_size=2)

    @fuzz(3 * examples, mask | list_of | anything)
    def attempt(value):
        path.write_text(json.dumps(value))
        survive(folder, prediction_files.read_map, path, 4)
        survive(folder, prediction_files.read_ids, path, 4, 3)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("kind", ["npy", "png"])
def test_predictions_as_arrays(kind, examples, folder):
    stream = io.BytesIO()
    values = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.save(stream, values) if kind == "npy" else Image.fromarray(values).save(stream, kind)
    path = folder / f"a.{kind}"
    objects = io.BytesIO()
    np.save(objects, np.array([[print]]), allow_pickle=True)

    @fuzz(examples, edits(stream.getvalue()) | st.just(objects.getvalue()))
    def attempt(content):
        path.write_bytes(content)
        survive(folder, prediction_files.read_map, path, 4)
        survive(folder, prediction_files.read_ids, path, 4, 3)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_thresholds(examples, folder):
    path = folder / "thresholds.csv"
    header = b"suite,split,task,method,variant,word_bank,seed,metric,threshold\n"
    rows = st.lists(scalars, min_size=1, max_size=9).map(
        lambda row: header + ",".join(map(str, row)).encode("utf-8", "replace")
    )

    @fuzz(examples, rows | st.binary(max_size=60))
    def attempt(content):
        path.write_bytes(content)
        survive(folder, extended.read_thresholds, path, "test")


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("examples", EXAMPLES)
def test_names_in_tables(examples, folder):
    @fuzz(4 * examples, names, names)
    def attempt(method, note):
        grid = pages.Grid([("", "Method"), (f"m{method}", "F")], [[method, "**1.0**"]], left=1, caption=note)
        page = pages.Page("t", "Table 2. a", "test suite", [grid], [note])
        markdown, latex = page.markdown(), page.latex()
        table = [line for line in markdown.splitlines() if line.startswith("|")]
        assert len(table) == 3 and all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in table)
        assert not re.search(r"<[a-z/!?]", markdown, re.IGNORECASE)
        assert latex.isascii() and len(latex.splitlines()) == len(PLAIN.latex().splitlines())
        assert not re.search(r"(?<!\\)[#&]", latex.replace(" & ", ""))


PLAIN = pages.Page(
    "t",
    "Table 2. a",
    "test suite",
    [pages.Grid([("", "M"), ("a", "F")], [["a", "1"]], left=1, caption="a")],
    ["a"],
)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_names_of_samples(examples, folder):
    frame = manifest.build(trees.s4(folder / "data"))
    dataset = {"name": "s4", "reader": "s4", "root": str(folder / "data"), "split": "test"}

    @fuzz(4 * examples, names)
    def attempt(name):
        frame["sample_id"] = [name, *(f"{index}" for index in range(1, len(frame)))]
        problems = manifest.structure_problems(frame, dataset)
        place = os.path.normpath(os.path.join("/answers", name + ".png"))
        safe = (
            os.path.dirname(place) == "/answers"
            and all(unicodedata.category(sign) not in ("Cc", "Cs") for sign in name)
            and 0 < len(name.encode("utf-8", "replace")) <= 200
        )
        assert any("names of files" in str(problem) for problem in problems) or safe


@pytest.mark.slow
@pytest.mark.parametrize("examples", EXAMPLES)
def test_lists_of_pairs(examples, folder):
    lines = st.lists(names, min_size=1, max_size=4).map(lambda cells: "name,image,sound\n" + ",".join(cells))
    path = folder / "pairs.csv"

    @fuzz(2 * examples, lines | st.text(max_size=30))
    def attempt(text):
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        for question in survive(folder, asking.questions, [path]) or ():
            assert (folder / question.name).resolve().is_relative_to(folder)


@pytest.mark.slow
def test_names_in_figures(folder):
    """Dollars are no formulas, and the figures' own formulas stay."""
    drawing.style()
    figure, axes = drawing.plt.subplots()
    axes.set_title("$\\frac{ $_ 5")
    axes.set_xlabel(drawing.ACTIVATION.heading)
    axes.plot([0], label="a$b$^{ < & 名 -x")
    axes.legend()
    drawing.save(figure, [folder / "a.png", folder / "a.pdf"])
    assert not axes.title.get_parse_math() and axes.xaxis.label.get_parse_math()
