"""FC-CLIP's optional backend where it is not installed: what it needs is said before any work."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch
import yaml

import taco.method.features
from taco import suites
from taco.models import backends
from taco.staging import doctor

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_missing_is_said_before_any_work(monkeypatch, tmp_path):
    """Not even the weight files are looked for."""
    monkeypatch.setitem(sys.modules, "detectron2", None)
    monkeypatch.delenv(backends.SOURCE, raising=False)
    module, source = map(str, backends.missing())
    assert "detectron2 at 02b5c4e295" in module and "envs/detectron2.yaml" in module
    assert "FCCLIP_SRC" in source and "fc-clip at 2b0bbe2130" in source
    models = {
        name: {"weights": tmp_path / "none", "backend": "detectron2"} for name in ("clip", "clap", "fcclip")
    }
    expected = r"lacks the module detectron2.*FCCLIP_SRC.*The backend transformers needs neither"
    with pytest.raises(backends.BackendError, match=expected):
        taco.method.features.load_models(models, torch.device("cpu"))

    monkeypatch.setenv(backends.SOURCE, str(tmp_path))
    assert "fcclip/fcclip.py in the folder" in backends.missing()[-1].what
    (tmp_path / "fcclip").mkdir()
    (tmp_path / "fcclip/fcclip.py").touch()
    assert len(backends.missing()) == 1
    module = type(sys)("detectron2")
    module.__spec__ = ModuleSpec("detectron2", None)
    monkeypatch.setitem(sys.modules, "detectron2", module)
    assert backends.missing() == []


def test_doctor_says_what_the_backend_lacks(monkeypatch):
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    monkeypatch.setitem(sys.modules, "detectron2", None)
    monkeypatch.delenv(backends.SOURCE, raising=False)

    def findings():
        return [f for f in doctor.examine(config, quick=True) if f.need == "models.fcclip.backend"]

    assert findings() == []
    config["models"]["fcclip"]["backend"] = "detectron2"
    suites.check(config, ROOT / "config/schemas/config.schema.yaml")
    module, source = findings()
    assert (module.status, module.place) == (doctor.MISSING, "the module detectron2")
    assert "envs/detectron2.yaml" in module.step and "2b0bbe2130" in source.step
    monkeypatch.setattr(backends, "missing", list)
    assert [finding.status for finding in findings()] == [doctor.PRESENT]


def test_environment_holds_the_projects_own_and_names_the_commits():
    def pins(name):
        environment = yaml.safe_load((ROOT / "envs" / name).read_text(encoding="utf-8"))
        return set(next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict)))

    assert pins("taco.yaml") < pins("detectron2.yaml")
    text = (ROOT / backends.ENVIRONMENT).read_text(encoding="utf-8")
    assert all(commit in text for commit in backends.COMMITS.values())
