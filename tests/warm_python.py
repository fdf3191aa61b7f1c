"""A `python` for the rules that has imported NeMo already: that takes 20 s of CPU, most jobs of a test one or two.

A server imports the third-party packages once and forks a process for each job. Snakemake finds a shim called
`python` first in PATH, so that the rules run as they are: the shim hands its arguments, folder, environment and file
descriptors to the server, waits, hands on SIGINT and SIGTERM, and ends as the job does; a job whose shim is killed is
killed too. The server never imports the project: a job has `rnnt` from beside its own script.
"""

import contextlib
import json
import os
import signal
import socket
import sys

SHIM = """#!{python} -IS
import sys
sys.path.append({folder!r})
import warm_python
warm_python.ask({address!r}, {python!r})
"""
PACKAGES = """
    bitsandbytes datasets datasets.io.json jinja2 jiwer jsonschema librosa.filters
    matplotlib.backends.backend_agg matplotlib.backends.backend_svg matplotlib.figure nemo.collections.asr.models
    opentelemetry.exporter.otlp.proto.http.metric_exporter rapidfuzz.distance scipy.io scipy.special soxr
    tensorboard.plugins.text.summary_v2 tensorboard.summary.writer.event_file_writer torch.profiler
    torch.utils.tensorboard transformers.integrations transformers.trainer wandb.apis.public
    wandb.sdk.launch.inputs.manage whisper_normalizer.english
""".split()
ENVIRONMENT = {
    # A process that forks must have one thread.
    **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")},
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    # Else a package that asks for GPUs when it is imported makes CUDA unusable in the jobs.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "NEMO_TESTING": "True",  # as rnnt.training.models sets it before it imports NeMo
    "HF_HUB_OFFLINE": "1",
}


@contextlib.contextmanager
def server(folder, *command_before, packages=PACKAGES):
    """Serve until the context ends; `folder`, which gets the shim, is for the front of PATH."""
    import subprocess

    address = os.path.join(folder, "socket")
    with open(os.path.join(folder, "python"), "w") as shim:
        shim.write(SHIM.format(python=sys.executable, folder=os.path.dirname(__file__), address=address))
    os.chmod(shim.name, 0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, open(f"{address}.log", "w") as log:
        listener.bind(address)
        listener.listen(64)  # Jobs that come while the packages are imported wait for it.
        command = [*command_before, sys.executable, __file__, str(listener.fileno()), *packages]
        environment = {**os.environ, **ENVIRONMENT, "HF_HOME": os.path.join(folder, "huggingface")}
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C is for the tests, which then end it.
        )
    try:
        yield
    finally:
        process.communicate()  # It ends with its stdin.


def ask(address, python):
    """In the shim: have the server run a script, and end as it did; whatever is no script is for the real python."""
    if not sys.argv[1:] or not sys.argv[1].endswith(".py"):
        os.execv(python, [python, *sys.argv[1:]])
    request = {"argv": sys.argv[1:], "folder": os.getcwd(), "environ": dict(os.environ), "python": sys.argv[0]}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(address)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: connection.send(str(number).encode()))
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        code = int(connection.recv(16) or sys.exit(f"the server has gone: {address}.log"))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def serve(listener):
    """Fork a process for each request, until stdin is closed. Returns in those processes, with the request."""
    import select

    jobs = {}  # by connection: the process, and a descriptor that is readable when it has ended
    while True:
        ready, _, _ = select.select([0, listener, *jobs, *(ended for _, ended in jobs.values())], [], [])
        for connection, (process, ended) in list(jobs.items()):
            said = connection.recv(16) if connection in ready else None
            if said:  # a signal that the shim got
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, int(said))
            elif 0 in ready or said == b"":  # The shim was killed.
                os.killpg(process, signal.SIGKILL)
            if 0 in ready or ended in ready:
                code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                with contextlib.suppress(OSError):
                    connection.send(str(code).encode())
                connection.close()
                os.close(ended)
                del jobs[connection]
        if 0 in ready:
            sys.exit()
        if listener in ready:
            connection, _ = listener.accept()
            request, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            process = os.fork()
            if process == 0:
                for number, file in enumerate(files):
                    os.dup2(file, number)
                    os.close(file)
                return json.loads(request)
            os.setpgid(process, process)
            for file in files:
                os.close(file)
            jobs[connection] = process, os.pidfd_open(process)


def run(request):
    """What `python SCRIPT` does, but for taking all modules apart at its end, which takes a second."""
    import atexit
    import runpy
    import threading
    import traceback
    import weakref

    # What a package made when it was imported, such as a temporary folder, is the server's to remove.
    atexit._clear()
    weakref.finalize._registry.clear()
    weakref.finalize._registered_with_atexit = False
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = request["argv"]
    sys.executable = request["python"]  # for the processes that a script starts
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    code = 1
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    import fcntl
    import gc
    import importlib
    import struct

    # Without a network there is still the machine itself, by which the processes of a training meet.
    with socket.socket() as any_socket, contextlib.suppress(OSError):
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x41))  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING
    for name in sys.argv[2:]:
        importlib.import_module(name)
    assert not [name for name in sys.modules if name.split(".")[0] == "rnnt"]
    assert len(os.listdir("/proc/self/task")) == 1, "an imported package runs a thread"
    gc.freeze()  # The jobs share what is imported: a garbage collection of theirs would write to all of it.
    run(serve(socket.socket(fileno=int(sys.argv[1]))))
