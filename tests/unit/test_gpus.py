"""Two jobs never share a GPU while another is free."""

import os
import subprocess
import sys

from conftest import SCRIPTS

LEASE = (
    "import os, sys; from rnnt import gpus; "
    "print(gpus.lease(0.05, int(os.environ.get('COUNT', 1))), os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True); "
    "sys.stdin.readline()"
)


def job(tmp_path, **env):
    clean = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    path = f"{tmp_path}:{os.environ['PATH']}"
    env = {**clean, "PYTHONPATH": str(SCRIPTS), "PATH": path, "TMPDIR": str(tmp_path), **env}
    return subprocess.Popen(
        [sys.executable, "-c", LEASE],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def machine_with_two_gpus(tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA X (UUID: GPU-aa)'\necho 'GPU 1: NVIDIA X (UUID: GPU-bb)'\n")
    tool.chmod(0o755)


def test_jobs_get_different_gpus_and_a_third_waits_for_one(tmp_path):
    machine_with_two_gpus(tmp_path)
    first = job(tmp_path)
    assert first.stdout.readline() == "0 0\n"
    second = job(tmp_path)
    assert second.stdout.readline() == "1 1\n"
    third = job(tmp_path)
    second.kill()  # a lease ends with its process, however that ends
    assert third.stdout.readline() == "1 1\n"
    for process in (first, third):
        process.communicate("\n")


def test_a_training_by_several_processes_waits_for_as_many_and_holds_none_meanwhile(tmp_path):
    machine_with_two_gpus(tmp_path)
    first = job(tmp_path)
    assert first.stdout.readline() == "0 0\n"
    both = job(tmp_path, COUNT="2")
    second = job(tmp_path)
    assert second.stdout.readline() == "1 1\n"
    for process in (first, second):
        process.communicate("\n")
    assert both.communicate("\n")[0] == "0,1 0,1\n"
    more = job(tmp_path, COUNT="3")
    assert "UserError: 3 GPUs are wanted (training.processes), there are 2: 0, 1" in more.communicate("\n")[1]


def test_only_what_a_scheduler_assigned_is_used(tmp_path):
    machine_with_two_gpus(tmp_path)
    assert job(tmp_path, CUDA_VISIBLE_DEVICES="1").communicate("\n")[0] == "1 1\n"


def test_without_a_gpu_there_is_nothing_to_lease(tmp_path):
    assert job(tmp_path, CUDA_VISIBLE_DEVICES="").communicate("\n")[0] == "None \n"
