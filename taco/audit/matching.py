"""Whether the results of a suite match what they were made from: every file of every stage, one line for what does not.

Digests are computed again, as the stages compute them: of code, models, settings, manifests and the caches that a stage
reads. Every array's checksum is compared, tables are made again from their score rows. What differs is named and left
as it is.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from taco import modules, runtime, suites
from taco.cache import receipts
from taco.cache.hdf5 import Cache, CacheError, fingerprint, open_cache
from taco.data import contents, manifest
from taco.data.problems import ManifestError
from taco.results import pools, score_files, whole
from taco.results.score_files import AggregateError
from taco.results.tables import TableError

FOLDERS = ("manifests", "features", "proposals", "factors", "predictions", "scores", "tables")
"""Folders in which nothing but the suite's own files belongs."""
STAGES = ("manifest", "features", "text", "factorize", "contribute", "score", "tables")
FORESEEN = (AggregateError, CacheError, ManifestError, TableError, receipts.ReceiptError, OSError)


@dataclass
class Checker:
    """Checks of one suite's results, in the order of the stages.

    Attributes
    ----------
    config : mapping
        By whose paths results are found below the working folder.
    done : callable
        Told the bytes of each file that was looked at.
    checked : int
        Files looked at so far.
    notes : list of str
        What could not be checked here, and why.
    """

    config: Mapping[str, Any]
    done: Callable[[int], object] = lambda size: None
    checked: int = 0
    notes: list[str] = field(default_factory=list)

    def mismatches(self) -> Iterator[str]:
        """One line for each file that does not match: its path, what was expected, what was found."""
        yield from self._manifests()
        yield from self._text()
        for name in suites.used_datasets(self.config):
            for shard in suites.shards(self.config, name):
                yield from self._shard(name, shard)
        yield from self._tables()
        yield from self._strangers()

    # ------------------------------------------------------------------ what is expected

    @property
    def folder(self) -> Path:
        """The suite's results."""
        return Path("results", self.config["suite"])

    @cached_property
    def code(self) -> dict[str, str]:
        """Digest of each stage's code, as it is now."""
        scripts = suites.ROOT / "workflow_scripts"
        return {stage: modules.code_digest(scripts / f"{stage}.py", suites.ROOT) for stage in STAGES}

    @cached_property
    def models(self) -> dict[str, str]:
        """Digests of the models; none where a weight file is not here."""
        from taco.method.features import model_digests

        try:
            return model_digests(self.config["models"])
        except OSError as error:
            self.notes.append(f"models: not compared, as a weight file cannot be read ({error})")
            return {}

    @cached_property
    def frames(self) -> dict[str, pd.DataFrame | None]:
        """Manifests by dataset; None for one that cannot be read."""
        found: dict[str, pd.DataFrame | None] = {}
        for name in suites.used_datasets(self.config):
            try:
                found[name] = manifest.read(self.folder / f"manifests/{name}.parquet")
            except ManifestError:
                found[name] = None
        return found

    def of_shard(self, name: str, shard: int) -> pd.DataFrame | None:
        """A shard's rows of its manifest."""
        frame, count = self.frames[name], len(suites.shards(self.config, name))
        return None if frame is None else manifest.shard(frame, shard, count)

    def seen(self, *paths: str | Path) -> None:
        """Count files as looked at."""
        for path in map(Path, paths):
            self.checked += 1
            self.done(path.stat().st_size if path.is_file() else 0)

    # ------------------------------------------------------------------ stages

    def _manifests(self) -> Iterator[str]:
        for name in suites.used_datasets(self.config):
            path, options = self.folder / f"manifests/{name}.parquet", suites.dataset(self.config, name)
            self.seen(path)
            try:
                found = manifest.read(path)
                if not Path(options["root"]).exists():
                    self.notes.append(f"{path}: not built again, as {options['root']} is not here")
                    continue
                wanted = manifest.limit(manifest.build(options, require_files=False), self.config["limit"])
            except FORESEEN as error:
                yield line(error)
                continue
            yield from self._edited(name)
            if not found.equals(wanted):
                yield f"{path}: expected the {len(wanted)} rows of {options['root']} as it is now, found {_unlike(found, wanted)}"

    def _edited(self, name: str) -> Iterator[str]:
        """Files of the dataset that are not what they were when its manifest was made."""
        path = self.folder / f"manifests/{name}.files.parquet"
        self.seen(path)
        try:
            found = contents.read(path)
        except ManifestError as error:
            yield line(error)
            return
        self.seen(*found["path"])
        remedy = f"Delete {self.folder}/manifests/{name}.parquet and run again, and all that depends on it is made anew"
        yield from (f"{edited}. {remedy}" for edited in contents.edited(found))

    def _text(self) -> Iterator[str]:
        expect = {
            "suite": self.config["suite"],
            "code": self.code["text"],
            "preprocessing": self.config["prompts"],
            "seed": self.config["seed"],
            **self.models,
        }
        path = self.folder / "text.h5"
        yield from self._cache(path, "text", expect)
        yield from self._words(path)

    def _words(self, path: Path) -> Iterator[str]:
        """Whether the files of words are those that were embedded."""
        from taco.method import text

        datasets = [
            {
                **suites.class_options(self.config, name),
                "drop_labels": self.config["datasets"][name]["drop_labels"],
            }
            for name in suites.used_datasets(self.config)
        ]
        banks = {name: suites.bank(self.config, name) for name in self.config["banks"]}
        try:
            wanted, held = text.words(datasets, banks), text.Text(path)
            odd = [
                group for group, names in wanted.items() if held.labels(*group.rsplit("/", 1)).names != names
            ]
        except (*FORESEEN, text.BankError) as error:
            self.notes.append(f"{path}: words not compared ({line(error)})")
            return
        if odd:
            yield f"{path}: expected the words of {', '.join(odd)} as their files have them now, found others; delete it and run again"

    def _shard(self, name: str, shard: int) -> Iterator[str]:
        """All files of a shard; what reads a damaged one is compared all the same where it can be."""
        frame = self.of_shard(name, shard)
        samples = None if frame is None else frame["sample_id"].tolist()
        how = {key: self.config["features"][key] for key in ("audio_crop", "stereo")}
        crop_seed = self.config["seed"] if how["audio_crop"] == "random" else 0
        how |= {"image_tokens": self.config["datasets"][name]["image_tokens"], "seed": crop_seed}
        expect = {"dataset": name, "code": self.code["features"], "preprocessing": how, **self.models}
        for kind in ("features", "proposals"):
            kept = kind == "features" or self.config["features"]["proposals"] != "none"
            path = self.folder / f"{kind}/{name}/{shard}.h5"
            storage = {"masks": self.config["features"]["proposals"]} if kept and kind == "proposals" else {}
            yield from self._cache(path, kind, {**expect, "storage": storage}, samples)
        yield from self._factors(name, shard, samples)
        if frame is not None:
            yield from self._predictions(name, shard, frame)
            yield from self._scores(name, shard, frame)

    def _factors(self, name: str, shard: int, samples: list[str] | None) -> Iterator[str]:
        receipt = suites.receipt(self.config, name, shard)
        self.seen(receipt)
        runs = suites.solved_runs(self.config, name)
        try:
            files = receipts.read(receipt)
        except FORESEEN as error:
            yield line(error)
            return
        wanted = {(run["bank"], run["variant"]) for run in runs}
        if wanted != set(files):
            odd = ", ".join("/".join(run) for run in sorted(wanted ^ set(files)))
            yield f"{receipt}: expected the {len(wanted)} runs of the configuration, found a difference in {odd}"
        bases = self._bases(name, shard, runs)
        for run in runs:
            key = run["bank"], run["variant"]
            if key in files:
                expect = {"dataset": name, "bank": run["bank"], "variant": run["variant"]}
                expect |= {
                    "solver": run["solver"],
                    "seeds": self.config["seeds"],
                    "code": self.code["factorize"],
                }
                expect |= {"basis": bases[key]} if bases else {}
                yield from self._cache(files[key], "factors", expect, samples)

    def _bases(self, name: str, shard: int, runs: list[dict[str, Any]]) -> dict[tuple, str]:
        """Digest of all that each run's factors depend on; none where something of it cannot be read."""
        from taco.method import factorize
        from taco.method.text import Text

        shards = suites.shards(self.config, name)
        features = [self.folder / f"features/{name}/{other}.h5" for other in shards]
        try:
            text = Text(self.folder / "text.h5")
            part = factorize.Shard(
                name=name,
                frame=self.of_shard(name, shard),
                whole=self.frames[name],
                features={factorize.OWN: [features[shards.index(shard)]], factorize.SHUFFLED: features},
                text=text,
                seed=self.config["seed"],
                expect=factorize.expected(text, name),
            )
            code = [self.code["factorize"], self.config["device"]]
            made = [factorize.Run(**run) for run in runs]
            return {(run.bank, run.variant): part.basis(run, self.config["seeds"], code) for run in made}
        except (*FORESEEN, TypeError, KeyError):  # said where the file itself is looked at
            self.notes.append(
                f"factors of {name}, shard {shard}: their inputs cannot be read, only code was compared"
            )
            return {}

    def _predictions(self, name: str, shard: int, frame: pd.DataFrame) -> Iterator[str]:
        from taco import entries
        from taco.method import contributed

        config, data = self.config, suites.data_of(self.config, name)
        for environment, methods in suites.environments(config, name).items():
            methods = suites.untitled(methods)
            receipt = self.folder / f"predictions/{name}/{shard}.{environment}.json"
            self.seen(receipt)
            try:
                files = receipts.read(receipt)
                seen = (
                    self._seen_by_methods(name, shard) if any(m["features"] for m in methods.values()) else []
                )
                for method, options in methods.items():
                    codes = entries.digests([options["entry"]])
                    size, rate = config["evaluation"]["size"], config["models"]["clap"]["sample_rate"]
                    told = contributed.told(options, codes, self.code["contribute"], size, rate, config)
                    basis = contributed.basis(frame, data, told, seen if options["features"] else ())
                    path = files.get((method,), receipt.parent / method / f"{shard}.h5")
                    expect = {"dataset": name, "method": method, "basis": basis}
                    yield from self._cache(path, "predictions", expect, list(frame["sample_id"]))
            except FORESEEN as error:
                yield line(error)

    def _seen_by_methods(self, name: str, shard: int) -> list[str]:
        """Digests of what methods are given that ask for features."""
        from taco.method.text import CLASSES, Text

        made = fingerprint(self.folder / f"features/{name}/{shard}.h5", "features")
        labels = Text(self.folder / "text.h5").labels(name, CLASSES)
        return [made, *map(runtime.array_digest, (labels.clip, labels.clap))]

    def _scores(self, name: str, shard: int, frame: pd.DataFrame) -> Iterator[str]:
        for task, told in suites.scored_tasks(self.config, name).items():
            stem = self.folder / f"scores/{name}/{shard}/{task}"
            path, pool = Path(f"{stem}.rows.parquet"), Path(f"{stem}.pools.parquet")
            self.seen(path, pool)
            try:
                found = score_files.about(path)["made"]
                wanted = score_files.made_from(
                    self.code["score"],
                    suites.told_to_scores(self.config, name, task),
                    frame,
                    self._read_by_scores(name, shard),
                )
                if found is None:
                    yield f"{path}: expected a record of what made it, found none: scored by an older version"
                elif odd := _other(wanted, found, ("code", "settings", "samples", "caches")):
                    yield f"{path}: made from other {', '.join(odd)} than there are now"
                score_files.check(path)
                rows = score_files.load_rows([path])
                if set(rows["sample_id"]) != set(frame["sample_id"]):
                    yield f"{path}: expected scores of the shard's {len(frame)} samples, found others"
                for row in pools.load([pool]).to_dict("records"):
                    pools.pool([row])
            except FORESEEN as error:
                yield line(error)
            examples = {
                "task": task,
                "dataset": name,
                "bank": told["default_bank"],
                "code": self.code["score"],
            }
            yield from self._cache(f"{stem}.examples.h5", "examples", examples, list(frame["sample_id"]))

    def _read_by_scores(self, name: str, shard: int) -> dict[str, tuple[Path, str]]:
        caches = {
            kind: (self.folder / f"{kind}/{name}/{shard}.h5", kind) for kind in ("features", "proposals")
        }
        caches["text"] = self.folder / "text.h5", "text"
        for run, path in receipts.read(suites.receipt(self.config, name, shard)).items():
            caches["/".join(["factors", *run])] = path, "factors"
        for receipt in suites.prediction_receipts(self.config, name, shard):
            for (method,), path in receipts.read(receipt).items():
                caches[f"predictions/{method}"] = path, "predictions"
        return caches

    def _tables(self) -> Iterator[str]:
        """Tables, made again from the rows."""
        config = self.config
        try:
            paths = suites.score_files(config, "rows.parquet")
            pooled = pools.load(suites.score_files(config, "pools.parquet"))
            found = whole.Tables.of(config, score_files.load_rows(paths, config["memory"]["rows"]), pooled)
            yield from self._text_file(self.folder / "thresholds.csv", whole.csv(found.thresholds()))
            for table in found.all():
                made = {"csv": table.csv(), "md": table.page.markdown(), "tex": table.page.latex()}
                for ending, text in made.items():
                    yield from self._text_file(self.folder / f"tables/{table.name}.{ending}", text)
        except FORESEEN as error:
            yield f"{self.folder}/tables: not made again, as their rows cannot be used: {line(error)}"

    def _text_file(self, path: Path, wanted: str) -> Iterator[str]:
        self.seen(path)
        try:
            found = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            yield f"{path}: expected a table, found {error}"
            return
        if found != wanted:
            pairs = zip(found.splitlines() + [""], wanted.splitlines() + [""])
            number = next((n for n, (a, b) in enumerate(pairs, 1) if a != b), 1)
            yield f"{path}: expected what the score files give, found a difference in line {number}"

    def _strangers(self) -> Iterator[str]:
        """Files where only the suite's own belong."""
        own = {str(path) for path in expected_files(self.config)}
        for folder in FOLDERS:
            for path in sorted((self.folder / folder).rglob("*")):
                if path.is_file() and not path.name.startswith(".") and str(path) not in own:
                    self.seen(path)
                    yield f"{path}: expected no such file by this configuration; delete it, or name the configuration it is of"

    # ------------------------------------------------------------------ one cache

    def _cache(
        self, path: str | Path, kind: str, expect: Mapping[str, Any], samples: list[str] | None = None
    ) -> Iterator[str]:
        """Compare a cache's attributes and samples, and every checksum."""
        self.seen(path)
        try:
            with open_cache(path, kind) as cache:
                if odd := _other(expect, cache.attributes, expect):
                    yield f"{path}: made with other {', '.join(odd)} than there are now"
                if samples is not None and cache.sample_ids != samples:
                    yield f"{path}: expected the shard's {len(samples)} samples, found {len(cache.sample_ids)} that differ"
                yield from _damaged(cache)
        except FORESEEN as error:
            yield line(error)


def expected_files(config: Mapping[str, Any]) -> Iterator[Path]:
    """Every file that the stages of a suite leave in `FOLDERS`, and ``text.h5``."""
    folder = Path("results", config["suite"])
    yield folder / "text.h5"
    tables = [*config["tables"]["which"], "intervals", "extended", "negatives"]
    yield from (folder / f"tables/{table}.{ending}" for table in tables for ending in ("csv", "md", "tex"))
    for ending in ("rows.parquet", "pools.parquet", "examples.h5"):
        yield from map(Path, suites.score_files(config, ending))
    for name in suites.used_datasets(config):
        yield from (folder / f"manifests/{name}.{ending}" for ending in ("parquet", "files.parquet"))
        yield folder / f"features/{name}.json"
        for shard in suites.shards(config, name):
            yield from (folder / f"{kind}/{name}/{shard}.h5" for kind in ("features", "proposals"))
            yield Path(suites.receipt(config, name, shard))
            yield from map(Path, suites.factor_files(config, name, shard))
            yield from map(Path, suites.prediction_receipts(config, name, shard))
            yield from (folder / f"predictions/{name}/{m}/{shard}.h5" for m in suites.methods(config, name))


def total_bytes(config: Mapping[str, Any]) -> int:
    """Bytes of the files that a check reads, for a progress bar."""
    return sum(path.stat().st_size for path in expected_files(config) if path.is_file())


def line(error: Exception) -> str:
    """An error's message in one line."""
    return " ".join(str(error).split())


def _other(wanted: Mapping[str, Any], found: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Names whose values differ; of a mapping those of its keys that are wanted."""
    odd = []
    for name in names:
        value = runtime.digest(wanted[name])
        there = found.get(name)
        if isinstance(wanted[name], Mapping) and isinstance(there, Mapping):
            keys = [*wanted[name], *(there if name in ("caches", "storage") else ())]
            parts = sorted({key for key in keys if wanted[name].get(key) != there.get(key)})
            odd += [f"{name} ({', '.join(parts)})"] if parts else []
        elif runtime.digest(there) != value:
            odd.append(name)
    return odd


def _damaged(cache: Cache) -> Iterator[str]:
    """Names of arrays of which a sample does not match its checksum, one line for each."""
    for name in cache:
        array = cache[name]
        for index in range(len(array)):
            try:
                array[index]
            except CacheError as error:
                yield line(error)
                break


def _unlike(found: pd.DataFrame, wanted: pd.DataFrame) -> str:
    """How two manifests differ."""
    if len(found) != len(wanted):
        return f"{len(found)} rows"
    odd = [name for name in wanted if not found[name].equals(wanted[name])]
    return f"others in {', '.join(odd)}"
