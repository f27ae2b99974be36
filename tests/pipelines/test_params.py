"""params.yaml: what it may say, and what a user hears who says something else."""

from pathlib import Path

import pytest
import yaml

from pipelines import params
from pipelines.errors import UserError
from pipelines.files import read_json, write_json

ROOT = Path(__file__).parents[2]


@pytest.fixture
def given(tmp_path):
    """Change the real params.yaml and load the result."""

    def load(change=lambda raw: None) -> params.Params:
        raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        change(raw)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump(raw), encoding="utf-8")
        return params.load(path)

    return load


def test_the_real_one_is_valid_and_frozen(given):
    settings = given()
    assert {"movie", "bbc", "tweets"} <= set(settings.tasks)
    assert settings.deployments_of("teacher")[:2] == ["onnx-fp32", "onnx-int8"]
    with pytest.raises(ValueError, match="frozen"):
        settings.limit = 50


def put(*path_and_value):
    *path, last, value = path_and_value

    def change(raw):
        for key in path:
            raw = raw[key]
        raw[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("seed", [0]), r"seed: unknown key; did you mean 'seeds'\?"),
        (put("teacher", "epochs", 2), r"teacher.epochs: unknown key; known: batch_size, folder"),
        (put("tasks", "movie", "max_lenght", 8), r"tasks.movie.max_lenght: unknown key; did you mean 'max_length'\?"),
        (put("tasks", "movie", "epochs", 0), r"tasks.movie.epochs: .*greater than 0 \(given: '0'\)"),
        (put("limit", 10), r"limit: .*greater than or equal to 50"),
        (put("carbon", "grid", "Germany"), r"carbon.grid: .*pattern"),
        (put("tasks", "movie", "labels", ["one"]), "at least two labels"),
        (put("tasks", "tweets", "labels", ["a", "b"]), "a regression task none"),
        (
            put("tasks", "movie", "metrics", ["acuracy"]),
            r"tasks.movie: .*\['acuracy'\] are no metrics .*accuracy",
        ),
        (put("tasks", "tweets", "metrics", ["accuracy"]), "no metrics of a regression task; known: pearson, spearman"),
        (put("methods", {"albert": {}}), "methods must hold 'teacher'"),
        (put("deployments", "nobody", ["onnx-fp32"]), r"deployments names \['nobody'\]"),
        (put("packages", {}), r"are not pinned under packages"),
        (put("packages", "--index-url=http://evil==1", "sha256:" + "0" * 64), "packages.*pattern"),
        (put("packages", "vaderSentiment==3.3.2", "md5:0"), "packages.*pattern"),
        (put("tasks", "Movie Reviews", {}), "tasks.Movie Reviews.*pattern"),
        (put("methods", "xs", {"method": 3}), r"methods.xs.method is 3; it takes the name of a method"),
        (put("methods", "xs", {"method": ["albert"]}), r"methods.xs.method is \['albert'\]; it takes the name"),
        (put("methods", "teacher", {"method": "albert"}), "methods must hold 'teacher', the method of that name"),
        (put("methods", "costs", {"method": "albert"}), r"\['costs'\] cannot be methods"),
        (
            put("methods", {"teacher": {}, "a": {"method": "b"}, "b": {"method": "albert"}}),
            r"methods.a.method is 'b', itself a variant: write 'albert', and the knobs",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(given, change, message):
    with pytest.raises(UserError, match=message):
        given(change)


def test_all_mistakes_are_told_at_once(given):
    def change(raw):
        put("tasks", "movie", "epochs", -1)(raw)
        put("seeds", [])(raw)

    with pytest.raises(UserError) as error:
        given(change)
    assert "tasks.movie.epochs" in str(error.value)
    assert "seeds" in str(error.value)


def test_a_variant_is_a_row_with_a_method_of_another_name(given):
    settings = given(put("methods", "open_autoglm_xs", {"method": "open_autoglm", "pruning_ratio": 0.9}))
    assert settings.method("open_autoglm_xs") == ("open_autoglm", {"pruning_ratio": 0.9})
    assert settings.method("albert") == ("albert", {})
    assert settings.deployments_of("open_autoglm_xs") == settings.deployments_of("open_autoglm")


def test_a_row_may_cut_its_passes_into_smaller_batches(given):
    settings = given(put("methods", "albert", {"batch_size": 4, "embedding_size": 128}))
    assert settings.batch_size_of("albert") == 4
    assert settings.batch_size_of("teacher") == settings.batch_size
    assert settings.method("albert") == ("albert", {"embedding_size": 128})


@pytest.mark.parametrize("size", [0, "8", True, 2.5])
def test_a_batch_is_a_whole_number_of_texts(given, size):
    with pytest.raises(UserError, match=r"methods\.albert\.batch_size is"):
        given(put("methods", "albert", {"batch_size": size}))


def test_a_variant_may_have_deployments_of_its_own_and_its_method_need_be_no_row(given):
    def change(raw):
        raw["methods"] = {"teacher": {}, "xs": {"method": "open_autoglm"}, "s": {"method": "open_autoglm"}}
        raw["deployments"] = {"all": ["onnx-fp32"], "open_autoglm": ["onnx-plan"], "s": ["onnx-int8"]}

    settings = given(change)
    assert settings.deployments_of("xs") == ["onnx-fp32", "onnx-plan"]
    assert settings.deployments_of("s") == ["onnx-fp32", "onnx-int8"]


def test_unknown_task_names_the_nearest(given):
    with pytest.raises(UserError, match=r"No task 'movies' in params.yaml; did you mean 'movie'\?"):
        given().task("movies")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "run from the project's root"),
        (b"a: [", "not readable YAML"),
        (b"\xff\xfe\x00", "not readable YAML"),
        (b"", "holds no settings"),
    ],
)
def test_a_missing_or_broken_file_is_one_message(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        params.load(path)


def test_json_is_stable_compact_and_never_half_written(tmp_path):
    value = {"b": [1.5, -2, 3e-7], "a": {"text": "line\n[\n1, 2\n]", "rows": [[1, 2], [3, 4]], "none": []}}
    path = tmp_path / "deep/er/x.json"
    write_json(path, value)
    assert read_json(path) == value
    assert "[ 1.5, -2, 3e-07 ]" in path.read_text()
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"x": float("nan")})
    assert read_json(path) == value
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]
    path.write_text("{")
    with pytest.raises(UserError, match="broken"):
        read_json(path)
