"""The fingerprint names what speed depends on, and changes with it alone."""

import os
import subprocess
import sys

import pytest

from leaderboard.schema import Machine
from pipelines.instruments import machine


def test_it_is_stable_and_survives_json():
    one, two = machine.fingerprint(), machine.fingerprint()
    assert one == two
    assert Machine.model_validate_json(one.model_dump_json()) == one
    assert one.cores == len(os.sched_getaffinity(0))
    assert one.versions["onnxruntime"]


@pytest.mark.parametrize(
    ("name", "value", "same"),
    [
        ("_cpu", lambda: ("another processor", ["avx2"]), False),
        ("_gpu", lambda: "a GPU", False),
        ("cores", lambda: 64, False),
        ("_version", lambda name: "99.0" if name == "onnxruntime" else None, False),
        ("_virtualization", lambda flags: "another hypervisor", False),
    ],
)
def test_the_id_changes_with_what_speed_depends_on(monkeypatch, name, value, same):
    before = machine.fingerprint().id
    monkeypatch.setattr(machine, name, value)
    assert (machine.fingerprint().id == before) is same


def test_the_id_does_not_change_with_python_or_kernel(monkeypatch):
    before = machine.fingerprint().id
    monkeypatch.setattr("platform.python_version", lambda: "9.9")
    monkeypatch.setattr("platform.release", lambda: "9.9")
    after = machine.fingerprint()
    assert after.id == before
    assert after.python == "9.9"


def test_it_names_the_threads_that_were_used_which_do_not_change_the_id():
    found = machine.fingerprint(training=0, timing=1)
    assert found.threads == {"training": machine.cores(), "timing": 1}
    assert found.id == machine.fingerprint().id


def test_it_reads_the_virtual_machines_processor(monkeypatch):
    cpuinfo = (
        "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n"
        "flags\t\t: fpu avx2 avx512_vnni hypervisor\n\nprocessor\t: 1\nmodel name\t: other\n"
    )
    monkeypatch.setattr(machine, "_text", lambda path: cpuinfo if path == "/proc/cpuinfo" else "")
    found = machine.fingerprint()
    assert found.cpu == "AMD EPYC (family 25, model 17)"
    assert found.cpu_flags == ["avx2", "avx512_vnni"]
    assert found.virtualization == "virtual machine"


def test_it_is_light():
    code = (
        "import sys; from pipelines.instruments import machine; machine.fingerprint();"
        "assert not {'torch', 'onnxruntime', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
