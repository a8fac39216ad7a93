"""A real SLURM of four nodes on this one machine, with pretend GPUs; for the tests and for newcomers.

    make slurm         python tests/cluster/slurm_cluster.py start FOLDER
    make slurm-stop    python tests/cluster/slurm_cluster.py stop FOLDER

Needs Linux, root, and the Debian packages slurm-wlm and munge. Everything is in
one folder: configuration, logs, keys, process ids. The daemons listen on free
ports and use their own munge key. `stop` ends only what `start` started. Each
node is a namespace with its own host name, because ranks on several nodes need
one. Where namespaces are not allowed, all nodes have the name of this machine,
and runs on several nodes do not work. The GPUs are device files without a driver.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun")
NODES, GPUS = 4, 4
_BOOT_S = 30
_MARK = ".slurm_cluster"  # only `start` makes a folder with such a file

_CONFIG = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge},cred_expire=5
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
PlugStackConfig=/dev/null
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
DefMemPerCPU=100
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
KillWait=5
MinJobAge={min_job_age}
MessageTimeout=5
SlurmdTimeout=10
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MaxArraySize={max_array_size}
MaxJobCount=100000
GresTypes=gpu
{accounting}
NodeName=node[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] \\
  CPUs=16 RealMemory=64000 {gres} Feature=pretend
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=node[1-{short}] MaxTime=30 MaxNodes=1 State=UP
PartitionName=graceful Nodes=ALL MaxTime=INFINITE State=UP GraceTime=20
PartitionName=cancelling Nodes=ALL MaxTime=INFINITE State=UP PreemptMode=CANCEL
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""

# Bash stays process 1 of the namespace, so that ended steps are reaped.
_NODE = """\
hostname {name}; mount --bind {folder}/hosts /etc/hosts
slurmd -D -c -N {name} & while :; do wait -n || sleep 1; done
"""


def why_not() -> str | None:
    """Why no SLURM can be started here; None if one can."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=_path()) is None]
    if missing:
        return f"{', '.join(missing)} not found; as root: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "you are not root, and the daemons of this SLURM run as root"
    return None


def why_no_accounting() -> str | None:
    """Why slurmdbd cannot be started here; None if it can."""
    tools = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb")
    missing = [tool for tool in tools if shutil.which(tool, path=_path()) is None]
    return (
        f"{', '.join(missing)} not found; as root: apt-get install slurmdbd mariadb-server"
        if missing
        else None
    )


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class SlurmCluster:
    """The daemons of one cluster, and the environment in which SLURM's commands reach them.

    Args:
        folder: holds everything; must not exist yet.
        accounting: start slurmdbd and a database too, so that sacct answers.
        max_array_size: SLURM's MaxArraySize.
        min_job_age: SLURM's MinJobAge, in seconds.
    """

    name, nodes = "test", NODES

    def __init__(
        self, folder: Path, accounting: bool = False, max_array_size: int = 10_001, min_job_age: int = 300
    ) -> None:
        self.folder = folder.resolve()
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SLURM")},
            "PATH": _path(),
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }
        self.accounting = accounting
        self.max_array_size = max_array_size
        self.min_job_age = min_job_age
        self.munge = self.folder / "munge.sock"
        self.dbd_port = 0
        self.namespaces = _namespaces_work()
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Boot, and wait until the nodes are idle."""
        self._write_files()
        self._start_services()
        self.start_controller()
        for number in range(1, self.nodes + 1):
            self._start_node(f"node{number}")
        self._wait_for(self._nodes_answer, "the nodes")

    def _start_services(self) -> None:
        """What the daemons of SLURM need."""
        names = {
            "socket": "sock",
            "key-file": "key",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        munge = [f"--{name}={self.folder}/munge.{end}" for name, end in names.items()]
        self._daemon("munged", "munged", "-F", "--force", *munge)
        self._wait_for(self.munge.exists, "munged")
        if self.accounting:
            self._start_accounting()

    def start_controller(self) -> None:
        """Start slurmctld, with its saved state if it ran before."""
        again = (self.folder / "state" / "job_state").exists()
        self._daemon("slurmctld", "slurmctld", "-D", *([] if again else ["-c"]))
        self._wait_for(lambda: self.call("scontrol", "ping").returncode == 0, "slurmctld")
        if again:
            self._wait_for(self._nodes_answer, "the nodes")

    def _nodes_answer(self) -> bool:
        states = self.call("sinfo", "-h", "-N", "-p", "debug", "-o", "%T").stdout.split()
        return len(states) == self.nodes and set(states) <= {"idle", "mixed", "allocated"}

    def stop_controller(self) -> None:
        self._end(self.daemons.pop("slurmctld"))

    def kill_node(self, name: str) -> None:
        """Cut the power of a node: its daemon and everything that runs on it end at once."""
        self._end(self.daemons.pop(name))

    def start_node(self, name: str) -> None:
        """Start a node again, and wait until it answers."""
        self._start_node(name)
        self._wait_for(self._nodes_answer, "the nodes")

    def stop(self) -> None:
        """Cancel the jobs, then end the daemons in reverse order of their start."""
        if "slurmctld" in self.daemons:
            self.call("scancel", "--full", "--user=root")
            time.sleep(0.5)
        for name in reversed(list(self.daemons)):
            self._end(self.daemons.pop(name))

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=300)

    def _write_files(self) -> None:
        (self.folder / "state").mkdir(parents=True)
        (self.folder / "dev").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        host = socket.gethostname()
        hosts = " ".join(f"node{number}" for number in range(1, self.nodes + 1))
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost {host} {hosts}\n")
        has_gpus = self._make_gpus()
        port = _free_ports(3 + self.nodes)
        self.dbd_port = self.dbd_port or port + 1
        accounting = (
            f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
            f"AccountingStoragePort={self.dbd_port}\nAccountingStorageEnforce=associations,limits\n"
            f"AccountingStoragePass={self.munge}\n"
            if self.accounting
            else "AccountingStorageType=accounting_storage/none"
        )
        text = _CONFIG.format(
            name=self.name, munge=self.munge, host=host, folder=self.folder, nodes=self.nodes, port=port,
            first=port + 2, last=port + 1 + self.nodes, short=min(2, self.nodes),
            gres=f"Gres=gpu:{GPUS}" if has_gpus else "", accounting=accounting,
            max_array_size=self.max_array_size, min_job_age=self.min_job_age,
        )  # fmt: skip
        (self.folder / "slurm.conf").write_text(text)

    def _make_gpus(self) -> bool:
        """Make character devices without a driver; False if we may not: then there are no GPUs."""
        try:
            for number in range(GPUS):
                device = self.folder / "dev" / f"nvidia{number}"
                os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(195, number))
        except OSError:
            return False
        (self.folder / "gres.conf").write_text(
            f"NodeName=node[1-{self.nodes}] Name=gpu File={self.folder}/dev/nvidia[0-{GPUS - 1}] Flags=nvidia_gpu_env\n"
        )
        return True

    def _start_node(self, name: str) -> None:
        if not self.namespaces:
            self._daemon(name, "slurmd", "-D", "-c", "-N", name)
            return
        space = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
        script = _NODE.format(name=name, folder=self.folder)
        self._daemon(name, *space, "bash", "-c", script)

    def _start_accounting(self) -> None:
        data, sock = self.folder / "db", self.folder / "db.sock"
        small = ["--innodb-log-file-size=8M", "--innodb-undo-tablespaces=0"]
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db",
             "--auth-root-authentication-method=normal", *small],
            env=self.environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._daemon("mariadbd", "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", *small,
                     f"--socket={sock}", "--skip-networking", f"--pid-file={self.folder}/db.pid")  # fmt: skip
        create = ("mariadb", "--no-defaults", f"--socket={sock}", "-e", "create database slurm_acct")
        self._wait_for(lambda: sock.exists() and self.call(*create).returncode == 0, "mariadbd")
        config = self.folder / "slurmdbd.conf"
        config.write_text(
            f"AuthType=auth/munge\nAuthInfo=socket={self.munge}\nDbdHost={socket.gethostname()}\n"
            f"DbdAddr=127.0.0.1\nDbdPort={self.dbd_port}\nSlurmUser=root\nLogFile={self.folder}/slurmdbd.log\n"
            f"PidFile={self.folder}/slurmdbd.pid\nStorageType=accounting_storage/mysql\nStorageUser=root\n"
            "StorageLoc=slurm_acct\n"
        )
        config.chmod(0o600)
        self._daemon("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=str(sock))
        add = ("sacctmgr", "-i", "add")
        self._wait_for(lambda: self.call(*add, "cluster", "test").returncode == 0, "slurmdbd")
        for words in (("account", "lab"), ("qos", "long"), ("user", "root", "account=lab")):
            self.call(*add, *words)

    def _daemon(self, name: str, *command: str, **variables: str) -> None:
        with (self.folder / "daemons.log").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, env={**self.environment, **variables}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, cwd="/",
            )  # fmt: skip

    def _end(self, daemon: subprocess.Popen[bytes]) -> None:
        if self.namespaces and isinstance(daemon.args, tuple) and daemon.args[0] == "unshare":
            daemon.kill()  # it ignores other signals; this ends everything in its namespace
        daemon.terminate()
        try:
            daemon.wait(timeout=10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _wait_for(self, ready: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _BOOT_S
        while not ready():
            dead = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > end:
                log = (self.folder / "daemons.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{what} did not come up in {_BOOT_S} s; ended: {dead}; {log}")
            time.sleep(0.1)


class SecondCluster(SlurmCluster):
    """Another cluster of one node, which shares munge and slurmdbd with `first`: SLURM's --clusters reaches it."""

    name, nodes = "second", 1

    def __init__(self, folder: Path, first: SlurmCluster) -> None:
        super().__init__(folder, accounting=True)
        self.munge, self.dbd_port = first.munge, first.dbd_port

    def _start_services(self) -> None:
        add = ("sacctmgr", "-i", "add")
        for words in (("cluster", self.name), ("account", "lab", f"cluster={self.name}"),
                      ("user", "root", "account=lab", f"cluster={self.name}")):  # fmt: skip
            self.call(*add, *words)


def _namespaces_work() -> bool:
    command = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "hostname", "x"]
    return (
        shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0
    )


def _free_ports(count: int) -> int:
    """The first of `count` consecutive free ports."""
    for first in range(7300 + os.getpid() % 200 * 10, 11_900, 10):
        sockets = []
        try:
            for port in range(first, first + count):
                probe = socket.socket()
                sockets.append(probe)
                probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for probe in sockets:
                probe.close()
    raise RuntimeError("no free ports")


def _start(folder: Path) -> int:
    reason = why_not()
    if reason:
        print(f"no SLURM can be started here: {reason}", file=sys.stderr)
        return 1
    if (folder / "processes.json").exists():
        print(f"{folder} already has a SLURM; stop it first: make slurm-stop", file=sys.stderr)
        return 1
    if not _may_be_replaced(folder):
        print(f"{folder} holds something else than a SLURM; name a new folder", file=sys.stderr)
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _MARK).touch()
    cluster = SlurmCluster(folder)
    cluster.start()
    born = {name: [daemon.pid, _born(daemon.pid)] for name, daemon in cluster.daemons.items()}
    (folder / "processes.json").write_text(json.dumps(born))
    (folder / "env.sh").write_text(_variables(cluster.folder))
    told = "" if cluster.namespaces else " (no namespaces here: runs on several nodes do not work)"
    print(f"SLURM is running: {NODES} nodes with {GPUS} pretend GPUs each{told}. Use it:")
    print(f"  . {_short(folder / 'env.sh')}")
    print("  python launchers/sweep.py sweeps/tour.yaml --cluster own")
    print("Stop it: make slurm-stop")
    return 0


def _variables(folder: Path) -> str:
    """For a shell that is to reach this SLURM."""
    return f'export SLURM_CONF={shlex.quote(f"{folder}/slurm.conf")} PATH="$PATH:/usr/sbin:/sbin"\n'


def _may_be_replaced(folder: Path) -> bool:
    """Whether nothing is lost with it: it is not there, is empty, or `start` made it."""
    if not os.path.lexists(folder):
        return True
    return folder.is_dir() and ((folder / _MARK).exists() or not any(folder.iterdir()))


def _stop(folder: Path) -> int:
    record = folder / "processes.json"
    if not record.exists():
        print("no SLURM was started here")
        return 0
    environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(folder.resolve() / "slurm.conf")}
    subprocess.run(["scancel", "--full", "--user=root"], env=environment, capture_output=True, timeout=30)
    time.sleep(1)
    for name, (pid, born) in reversed(json.loads(record.read_text()).items()):
        end = time.monotonic() + (0 if name.startswith("node") else 10)  # a namespace obeys SIGKILL only
        while _born(pid) == born:  # never a later process with the same id
            os.kill(pid, signal.SIGTERM if time.monotonic() < end else signal.SIGKILL)
            time.sleep(0.2)
    shutil.rmtree(folder)
    print("SLURM is stopped")
    return 0


def _born(pid: int) -> str | None:
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("start", "stop"):
        sys.exit("usage: slurm_cluster.py start|stop FOLDER")
    sys.exit({"start": _start, "stop": _stop}[sys.argv[1]](Path(sys.argv[2])))
