"""The stage: from artifacts to Cost, by real workers on tiny artifacts, and its messages."""

import json

import pytest

from leaderboard import derive
from leaderboard.schema import Cost
from openautoglm import artifact
from openautoglm.artifact import ArtifactError
from pipelines import measure
from pipelines.errors import UserError
from pipelines.params import Carbon, Measurement
from tests.pipelines.tiny_artifacts import TEXTS, carbon, write

SETTINGS = Measurement(threads=1, launches=2, launch_s=0.1, slot_s=0.002, warmup_s=0.02, window_s=1.0, max_texts=30)
DECLARED = Carbon.model_validate(carbon())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("artifacts")
    return {"small": write(root / "small", layers=2), "large": write(root / "large", layers=200, width=128)}


@pytest.fixture(scope="module")
def costs(folders):
    return measure.measure(folders, folders["large"], TEXTS, SETTINGS, DECLARED, int8=folders["small"])


def test_every_artifact_gets_a_cost_that_survives_json(costs, folders):
    assert set(costs) == set(folders)
    for cost in costs.values():
        assert Cost.model_validate_json(cost.model_dump_json()) == cost
        assert len(cost.launches) in range(SETTINGS.launches, measure.MORE * SETTINGS.launches + 1)


def test_deriving_again_gives_the_same_bytes(costs):
    for cost in costs.values():
        read = Cost.model_validate_json(cost.model_dump_json())
        again = derive.summarise(read.launches, read.solo)
        assert again.model_dump_json() == cost.model_dump_json()


def test_the_smaller_model_is_cheaper_in_every_way(costs):
    small, large = costs["small"], costs["large"]
    assert small.speedup.low > 1.5
    assert large.speedup.low < 1.5
    assert large.speedup_int8.high < 1 / 1.5 < small.speedup_int8.low
    assert small.cpu_s_per_1000 < large.cpu_s_per_1000
    assert small.energy_kwh_per_1000.likely < large.energy_kwh_per_1000.likely
    assert small.solo.load_mb < large.solo.load_mb
    assert small.latency_p50_ms.value < large.latency_p50_ms.value


def test_single_calls_are_one_a_text_over_all_launches(costs):
    calls = [len(launch.call_ms) for launch in costs["small"].launches]
    assert sum(calls) <= SETTINGS.max_texts
    assert all(count <= SETTINGS.max_texts / SETTINGS.launches for count in calls)
    assert not sum(calls[SETTINGS.launches :])
    assert costs["small"].latency_p90_ms is None  # 30 texts are too few for it


def test_solo_marks_are_in_order_and_the_energy_is_certified(costs):
    for cost in costs.values():
        solo = cost.solo
        assert solo.import_mb <= solo.load_mb <= solo.peak_mb + 1
        assert solo.texts % SETTINGS.max_texts == 0  # whole passes: no text weighs more than another
        assert solo.wall_s >= SETTINGS.window_s
        assert solo.throughput_texts_per_s > 0
        assert len(solo.all_cores_call_ms) == SETTINGS.max_texts
        assert min(solo.all_cores_call_ms) > 0
        assert solo.certificate.codecarbon_kwh > 0
        assert solo.certificate.memory_gb == pytest.approx(solo.peak_mb / 1000, abs=1e-4)
        assert solo.certificate.energy_valid


def test_throughput_is_the_best_of_two_passes_at_least(monkeypatch, folders):
    seen = []

    class Counted(worker_predictor()):
        def logits(self, texts, *, batch_size=1):
            seen.append(batch_size)
            return super().logits(texts, batch_size=batch_size)

    monkeypatch.setattr("openautoglm.runtime.Predictor", Counted)
    monkeypatch.setattr(measure.worker, "_pin", lambda cores: None)
    request = {"artifact": str(folders["small"]), "all_cores": [], "window_s": 1e-9}
    found = measure.worker._all_cores(request, TEXTS)
    assert seen.count(measure.worker.BATCH) == 2
    assert found["throughput_texts_per_s"] > 0


def worker_predictor():
    from openautoglm.runtime import Predictor

    return Predictor


def test_texts_are_spread_and_different():
    assert sorted(measure._spread(["a", "b", "a", "c", "d"], 2)) == ["a", "c"]
    assert measure._spread(["a"], 5) == ["a"]
    with pytest.raises(UserError, match="No texts"):
        measure._spread([], 3)


@pytest.mark.parametrize("count", [24, 64, 100])
def test_every_stretch_of_the_texts_is_as_long_as_any_other(count):
    texts = ["x" * (1 + i) for i in range(count)]
    spread = measure._spread(texts, count)
    assert sorted(spread) == texts
    stretches = [[len(text) for text in (spread + spread)[i : i + count // 3]] for i in range(count)]
    means = [sum(stretch) / len(stretch) for stretch in stretches]
    assert max(means) - min(means) < count / 3  # in the given order: two thirds of the count


def test_launches_share_out_the_single_calls_and_go_over_the_same_texts(folders, monkeypatch):
    asked, real = [], measure.worker.Worker.ask

    def ask(worker, request):
        asked.append(request)
        return real(worker, request)

    monkeypatch.setattr(measure.worker.Worker, "ask", ask)
    monkeypatch.setattr(measure, "SLOW", float("inf"))
    monkeypatch.setattr(measure, "MORE", 1)
    settings = SETTINGS.model_copy(update={"launches": 3})
    launches = measure.time_pairs({"x": folders["small"]}, folders["large"], TEXTS[:4], settings)["x"]
    assert sorted(text for request in asked for text in request["own_texts"]) == sorted(TEXTS[:4])
    assert len({tuple(request["texts"]) for request in asked}) == 1
    assert [request["rounds"] for request in asked] == [None, 4, 4]
    assert {len(launch.reference_block_ms) for launch in launches} == {4}
    assert len({request["seed"] for request in asked}) == 3


@pytest.mark.parametrize(
    ("probes", "kept", "repeated"),
    [
        ([1.0, 1.05, 1.0], [0, 1, 2], [0, 0, 0]),
        ([1.3, 1.0, 1.0, 1.0], [3, 1, 2], [4, 0, 0]),  # the first was loud, and is taken again
        ([1.0, 1.0, 1.3, 1.4], [0, 1, 2], [0, 0, 4]),  # the second try is louder still: it counts as a repeat only
    ],
)
def test_a_launch_without_a_quiet_moment_is_taken_again_once(folders, monkeypatch, probes, kept, repeated):
    real, asked = measure.worker.Worker.ask, []

    def ask(worker, request):
        asked.append(request["seed"])
        found = real(worker, request)["x"]
        number = len(asked) - 1
        return {"x": found | {"probe_ms": probes[number], "tokenize_ms": number, "dropped_pairs": 0}}

    monkeypatch.setattr(measure.worker.Worker, "ask", ask)
    monkeypatch.setattr(measure, "MORE", 1)
    settings = SETTINGS.model_copy(update={"launches": 3})
    launches = measure.time_pairs({"x": folders["small"]}, folders["large"], TEXTS[:4], settings)["x"]
    assert [launch.tokenize_ms for launch in launches] == kept
    assert [launch.dropped_pairs for launch in launches] == repeated
    assert asked == [0, 1, 2, *(i for i, probe in enumerate(probes[:3]) if probe > 1.1)]


@pytest.mark.parametrize(
    ("floors", "taken"),
    [
        ([0.03], 2),
        ([0.05, 0.03], 3),
        ([0.0301] * 9, measure.MORE * SETTINGS.launches),
        ([0.07], 2),  # four times as many halve it, and 0.035 is too much still
        ([0.05, 0.05], 3),
    ],
)
def test_there_are_more_launches_where_the_noise_floor_is_high(folders, monkeypatch, floors, taken):
    left = iter(floors)
    monkeypatch.setattr(derive, "noise_floor", lambda launches: next(left))
    monkeypatch.setattr(measure, "SLOW", float("inf"))
    launches = measure.time_pairs({"x": folders["small"]}, folders["large"], TEXTS[:4], SETTINGS)["x"]
    assert len(launches) == taken
    assert {len(launch.reference_block_ms) for launch in launches} == {4}
    assert sum(len(launch.call_ms) for launch in launches) == 4  # single calls stay those of the first ones


def test_only_the_rows_that_are_not_sure_get_more_launches(folders, monkeypatch):
    floors = iter([0.05, 0.03, 0.03, 0.03])  # of x and y after two launches, and after three of x
    monkeypatch.setattr(derive, "noise_floor", lambda launches: next(floors))
    monkeypatch.setattr(measure, "SLOW", float("inf"))
    found = measure.time_pairs({"x": folders["small"], "y": folders["small"]}, folders["large"], TEXTS[:4], SETTINGS)
    assert {name: len(launches) for name, launches in found.items()} == {"x": 3, "y": 2}


def test_fewer_texts_than_launches_are_enough(folders):
    launches = measure.time_pairs({"x": folders["small"]}, folders["large"], TEXTS[:1], SETTINGS)["x"]
    assert [len(launch.call_ms) for launch in launches[:2]] == [1, 0]


def test_a_missing_artifact_is_named_before_anything_runs(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(measure.worker, "Worker", lambda *_: pytest.fail("a worker was started"))
    with pytest.raises(ArtifactError, match="nowhere"):
        measure.measure({"x": tmp_path / "nowhere"}, folders["large"], TEXTS, SETTINGS, DECLARED)


def test_a_failed_worker_is_a_users_message(folders, monkeypatch):
    def fail(*_):
        raise measure.worker.WorkerError("Measuring (launch) ended with exit code -9: killed")

    monkeypatch.setattr(measure.worker.Worker, "ask", fail)
    with pytest.raises(UserError, match="killed"):
        measure.measure(folders, folders["large"], TEXTS, SETTINGS, DECLARED)


def test_the_table_prints_every_figure(costs, folders, tmp_path, monkeypatch, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("good film\n\nbad story\n")
    seen = {}

    def fake(folders, reference, lines, *_):
        seen["lines"] = list(lines)
        return {"artifact": costs["small"]}

    monkeypatch.setattr(measure, "measure", fake)
    measure.table(folders["small"], folders["large"], texts)
    out = capsys.readouterr().out
    assert seen["lines"] == ["good film", "bad story"]
    for word in ("times faster", "noise floor", "n too small", "peak memory", "energy", "CO2e", "throughput"):
        assert word in out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "not a readable text file"),
        (b"\xff\xfe\x00binary", "not a readable text file"),
        (b"", "holds no texts"),
        (b"\n  \n", "holds no texts"),
    ],
)
def test_a_text_file_that_holds_no_texts_is_one_message(folders, tmp_path, content, said):
    if content is not None:
        (tmp_path / "texts.txt").write_bytes(content)
    with pytest.raises(UserError, match=said):
        measure.table(folders["small"], folders["large"], tmp_path / "texts.txt")


def test_a_byte_order_mark_is_no_part_of_the_first_text(tmp_path):
    (tmp_path / "texts.txt").write_bytes("\ufeffgood film\r\nbad\r\n".encode())
    assert measure.read_texts(tmp_path / "texts.txt") == ["good film", "bad"]


def test_a_model_that_does_not_load_is_one_message(folders, tmp_path):
    broken = write(tmp_path / "broken")
    model = broken / "model.onnx"
    model.write_bytes(model.read_bytes()[:200])
    manifest = json.loads((broken / "manifest.json").read_text())
    manifest["files"]["model.onnx"]["sha256"] = artifact.file_sha256(model)
    (broken / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"1: \S*broken: the model does not load"):
        measure.measure({"broken": broken}, folders["large"], TEXTS, SETTINGS, DECLARED)
