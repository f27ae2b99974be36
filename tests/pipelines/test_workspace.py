"""Profiles laid over params.yaml: a variant that one adds says only what it changes."""

from __future__ import annotations

import pytest
import yaml

from pipelines import methods, params, workspace
from pipelines.errors import UserError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one profile, "p", and two methods, one of them tuned."""
    (tmp_path / "profiles").mkdir()
    base = {"profile": "default", "methods": {"albert": {"learning_rate": 1e-3, "shared_from": 1}, "half": {}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(base))
    monkeypatch.chdir(tmp_path)

    def lay(overlay):
        (tmp_path / "profiles/p.yaml").write_text(yaml.safe_dump(overlay))
        return workspace.overlaid("p")["methods"]

    return lay


def test_an_added_variant_starts_from_its_methods_row(project):
    rows = project({"methods": {"albert_wide": {"method": "albert", "embedding_size": 128, "shared_from": None}}})
    assert rows["albert_wide"] == {
        "method": "albert",
        "learning_rate": 1e-3,
        "shared_from": None,
        "embedding_size": 128,
    }
    assert rows["albert"] == {"learning_rate": 1e-3, "shared_from": 1}


def test_a_row_that_is_there_is_changed_and_null_removes_it(project):
    assert project({"methods": {"albert": {"shared_from": 2}, "half": None}}) == {
        "albert": {"learning_rate": 1e-3, "shared_from": 2}
    }


def test_an_unknown_profile_names_the_known(project):
    project({})
    with pytest.raises(UserError, match="known are default, p"):
        workspace.overlaid("q")


def test_every_ablation_changes_a_knob_that_its_method_has(tmp_path):
    """The committed profile, laid over the committed params.yaml, as `bench run --profile ablations` would."""
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(workspace.overlaid("ablations")))
    settings, rows = params.load(path), params.load()
    variants = [row for row in settings.methods if row not in rows.methods]
    assert variants
    for row in variants:
        method, given = settings.method(row)
        module = methods.load(method)
        full = methods.bind(module, rows.method(method)[1] if method in rows.methods else {})
        assert row.startswith(method)
        assert methods.bind(module, given, row) != full
