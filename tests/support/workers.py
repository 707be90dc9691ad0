"""Snakemake whose jobs are forks of one process that has loaded the libraries, and die where a plan says.

A job's script is run by the interpreter that runs Snakemake. `command` names a client in its place, which asks the server
below for a fork; so a job costs its own work alone, and the server knows when each begins, writes and ends. Nothing of
the product is changed. In a project's folder lie

* ``kills.json``: script → a list of moments, each for one attempt: ``["work", SECONDS]``, when the job has used so much
  processor time, at the latest when all its work is done; ``["write", SECONDS]``, so long after a file of it has been seen half written; ``["halt", SECONDS]``,
  as ``work``, but halted instead of killed;
* ``jobs.log``: a line ``script pid event seconds`` for each start, halt and end (or kill), with the processor time used.
"""

import contextlib
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import psutil

LIBRARIES = (
    *(
        "torch",
        "torchaudio",
        "torchvision",
        "timm.models.convnext",
        "open_clip.tokenizer",
        "msclap.models.clap",
    ),
    *("transformers.models.mask2former.modeling_mask2former", "transformers.models.gpt2.modeling_gpt2"),
    *("pandas", "pyarrow.parquet", "h5py", "hdf5plugin", "scipy.signal", "scipy.stats", "scipy.optimize"),
    *("safetensors.torch", "soundfile", "av", "rich.console", "jsonschema", "tabulate"),
)
CLIENT = """#!{python} -IS
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, ["\\0".join([os.getcwd(), *sys.argv[1:]]).encode()], [0, 1, 2])
sys.exit(int(server.recv(16) or b"137"))
"""
STARTER = (
    "import runpy, sys; sys.executable = sys.argv.pop(1); runpy.run_module('snakemake', run_name='__main__')"
)


# ---------------------------------------------------------------- what a test uses


class Workers:
    """The server, in a process of its own."""

    def __init__(self, folder):
        self.client, address = folder / "python", str(folder / "socket")
        self.client.write_text(CLIENT.format(python=sys.executable, address=address))
        self.client.chmod(0o755)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen([sys.executable, __file__, address], env=environment)
        while not os.path.exists(address):
            assert self._server.poll() is None
            time.sleep(0.05)

    def command(self, *arguments):
        """Snakemake with these jobs."""
        base = [sys.executable, "-c", STARTER, str(self.client), *arguments, "--cores", "2", "--nocolor"]
        return [*base, "--configfile", "small.yaml"]

    def snakemake(self, folder, *arguments, check=True):
        """Run it to its end: exit code and output."""
        done = subprocess.run(
            self.command(*arguments), cwd=folder, capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        assert not check or done.returncode == 0, output[-6000:]
        return done.returncode, output

    def stop(self):
        """End the server; jobs that are left go on."""
        self._server.kill()
        self._server.wait()


def jobs(folder):
    """(script, pid, event, seconds) of every line of the log."""
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / "jobs.log").read_text().splitlines():
            script, pid, event, seconds = line.split()
            yield script, int(pid), event, float(seconds)


def plan(folder, kills):
    """Have the next jobs killed, and forget the log."""
    (folder / "kills.json").write_text(json.dumps(kills))
    (folder / "jobs.log").unlink(missing_ok=True)


# ---------------------------------------------------------------- the server


def serve(address):
    """Answer each client with a process that forks, watches and maybe kills its job."""
    for name in LIBRARIES:
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(16)
    while True:
        client, _ = listener.accept()
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            with contextlib.suppress(BrokenPipeError):
                client.sendall(str(watch(*receive(client))).encode())
            os._exit(0)
        client.close()


def receive(client):
    """Folder, script and standard streams of a job."""
    data, streams, _, _ = socket.recv_fds(client, 65536, 3)
    folder, script = data.decode().split("\0")[:2]
    return Path(folder), script, streams


def watch(folder, script, streams):
    """Run a job, kill it at its moment, and return its exit status."""
    name = re.search(r"(\w+)\.py$", script)[1]
    moment = next_moment(folder, name)
    pid = os.fork()
    if not pid:
        work(folder, script, streams, last=moment is not None and moment[0] == "work")
    note(folder, name, pid, "start", 0)
    if moment and disturb(pid, folder, *moment):
        note(folder, name, pid, "halted", processor_time(pid))
    _, status, usage = os.wait4(pid, 0)
    killed = os.WIFSIGNALED(status)
    note(folder, name, pid, "killed" if killed else "end", usage.ru_utime + usage.ru_stime)
    return 137 if killed else os.WEXITSTATUS(status)


def next_moment(folder, name):
    """Take the job's next moment from the plan."""
    path = folder / "kills.json"
    kills = json.loads(path.read_text()) if path.exists() else {}
    if not kills.get(name):
        return None
    moment = kills[name].pop(0)
    path.write_text(json.dumps(kills))
    return moment


def note(folder, *words):
    with open(folder / "jobs.log", "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def disturb(pid, folder, how, seconds):
    """Kill or halt a job at its moment; return whether it is halted. Nothing happens to one that has ended."""
    clock = partial(processor_time, pid)
    if how == "write":
        while not halted_while_writing(pid, folder):
            if ended(pid):
                return False
        os.kill(pid, signal.SIGCONT)
        seconds, clock = time.monotonic() + seconds, time.monotonic
    while clock() < seconds and not ended(pid):
        time.sleep(0.001)
    if not ended(pid):
        os.kill(pid, signal.SIGSTOP if how == "halt" else signal.SIGKILL)
        return how == "halt"
    return False


def processor_time(pid):
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def ended(pid):
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def halted_while_writing(pid, folder):
    """Whether the job has something half written; it is halted if so."""
    if not unfinished(pid, folder):
        return False
    os.kill(pid, signal.SIGSTOP)
    if unfinished(pid, folder):
        return True
    os.kill(pid, signal.SIGCONT)
    return False


def unfinished(pid, folder):
    """The half-written files and folders of a job."""
    found = []
    for place, folders, files in os.walk(folder / "results"):
        found += [Path(place, name) for name in (*folders, *files) if f"-{pid}-" in name and name[0] == "."]
        folders[:] = [name for name in folders if name != "world" and name[0] != "."]
    return found


def work(folder, script, streams, last):
    """Be the job; killed at the ``last`` instant, if not before."""
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(folder)
        sys.argv, sys.path[0] = [script], str(Path(script).parent)
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush(), sys.stderr.flush()
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
