#!/usr/bin/env bash
# A real one-node SLURM with two pretended GPUs, for tests. Debian, root. Usage: start.sh FOLDER (state, logs, configuration).
# Exit code 77: it cannot run on this machine. End it with stop.sh FOLDER.
set -euo pipefail
folder=${1:?usage: start.sh FOLDER}

[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }
command -v apt-get >/dev/null || { echo "needs Debian's packages of SLURM"; exit 77; }

packages=(slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge)
missing=()
for package in "${packages[@]}"; do
  dpkg-query --show --showformat '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$folder.apt.log" 2>&1 ||
    { echo "cannot install ${missing[*]}: $(tail -n 1 "$folder.apt.log")"; exit 77; }
fi

mkdir -p "$folder"/{controller,node,log,run,dev}
[ -s /etc/munge/munge.key ] || {
  install -d -m 700 -o munge -g munge /etc/munge
  head -c 128 /dev/urandom >/etc/munge/munge.key
  chown munge:munge /etc/munge/munge.key
  chmod 400 /etc/munge/munge.key
}
install -d -m 755 -o munge -g munge /run/munge
munge --no-input >/dev/null 2>&1 || runuser -u munge -- /usr/sbin/munged
munge --no-input | unmunge >/dev/null

# SLURM takes a GPU only with a device file, and only a character device: more null devices serve. CPUs and memory are
# pretended too (config_overrides), so that two jobs of the size that the profile asks for run side by side.
for gpu in 0 1; do
  [ -c "$folder/dev/gpu$gpu" ] || mknod -m 666 "$folder/dev/gpu$gpu" c 1 3
done
node=$(hostname -s)
echo "NodeName=$node Name=gpu File=$folder/dev/gpu[0-1]" >"$folder/gres.conf"
# Says which job has which GPU; SLURM itself forgets it once the job has ended.
cat >"$folder/prolog.sh" <<PROLOG
#!/bin/sh
echo "\$SLURM_JOB_ID \${SLURM_JOB_GPUS:-none}" >>"$folder/log/gpus"
PROLOG
chmod +x "$folder/prolog.sh"
cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$folder/controller
SlurmdSpoolDir=$folder/node
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
Prolog=$folder/prolog.sh
PrologFlags=Alloc
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=5
MinJobAge=3600
InactiveLimit=0
KillWait=5
OverTimeLimit=0
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=$node NodeAddr=127.0.0.1 CPUs=32 RealMemory=131072 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF

# Jobs do not inherit SLURM_CONF, so the clients in them look here.
mkdir -p /etc/slurm
[ -e /etc/slurm/slurm.conf ] && [ ! -L /etc/slurm/slurm.conf ] && { echo "this machine has a SLURM of its own"; exit 77; }
ln -sfn "$folder/slurm.conf" /etc/slurm/slurm.conf
ln -sfn "$folder/gres.conf" /etc/slurm/gres.conf

export SLURM_CONF=$folder/slurm.conf
slurmctld
slurmd -N "$node"
for _ in $(seq 120); do
  case $(sinfo --noheader --format %T 2>/dev/null || true) in
    idle | mixed | allocated) exit 0 ;;
    *down* | *drain*) scontrol update nodename="$node" state=resume 2>/dev/null || true ;;
  esac
  sleep 0.5
done
echo "the node did not become idle" >&2
tail -n 20 "$folder"/log/*.log >&2
exit 1
