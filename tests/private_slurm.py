"""A Slurm of one node on this machine, without accounting, for the time of a test. Needs root and Debian's packages."""

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
CONF = """
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MinJobAge=300
KillWait=3
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,sched_min_interval=0
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 Port={node} CPUs=8 RealMemory=1000000 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def lacking():
    """Why there can be none here; nothing where it can."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [name for name in DAEMONS if not shutil.which(name, path=path)]
    if missing:
        return f"no {', '.join(missing)} here (Debian: slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "a private Slurm has to be started by root"


def ports(number):
    """Ports of the loopback that are free."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in taken]


@contextlib.contextmanager
def cluster(folder):
    """Start it in an empty folder; yields the variables with which its commands find it.

    A folder of its own is first in PATH, and must be.
    """
    folder = Path(folder)
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    host, (ctld, node) = platform.node(), ports(2)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, ctld=ctld, node=node))
    gpus = [folder / f"gpu{number}" for number in range(2)]
    for gpu in gpus:
        subprocess.run(["mknod", gpu, "c", "1", "3"], check=True)
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={gpu}\n" for gpu in gpus))
    # The plugin keeps SLURM_CONF from the srun in a job.
    srun = folder / "bin/srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={conf} exec {shutil.which("srun")} "$@"\n')
    srun.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    folder.chmod(0o755)
    environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": f"{folder}/bin:{os.environ['PATH']}:/usr/sbin"}
    places = [f"--{name}-file={folder}/munge.{name}" for name in ("log", "pid", "seed")]
    commands = [
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.sock", *places],
        ["slurmctld", "-D", "-i", "-f", conf],
        ["slurmd", "-D", "-N", host, "-f", conf],
    ]
    started = []
    try:
        for command in commands:
            with open(folder / f"{command[0]}.said", "w") as said:
                started.append(subprocess.Popen(command, env=environment, stdout=said, stderr=said))
            if command[0] == "munged":
                _wait(lambda: (folder / "munge.sock").exists(), folder, started)
        _wait(lambda: "idle" in _sinfo(environment), folder, started)
        yield environment
    finally:
        subprocess.run(["scancel", "--full", "--me", "--signal=KILL"], env=environment, capture_output=True)
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _sinfo(environment):
    return subprocess.run(["sinfo", "--noheader"], env=environment, capture_output=True, text=True).stdout


def _wait(ready, folder, started):
    until = time.monotonic() + 120
    while not ready():
        said = "\n".join(path.read_text(errors="replace") for path in folder.glob("*.said"))
        assert time.monotonic() < until and all(process.poll() is None for process in started), said
        time.sleep(0.1)
