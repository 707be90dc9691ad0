#!/usr/bin/env bash
# End what start.sh FOLDER started.
set -uo pipefail
folder=${1:?usage: stop.sh FOLDER}
export SLURM_CONF=$folder/slurm.conf
timeout 10 scancel --user="$(id -un)" 2>/dev/null
for name in slurmd slurmctld; do
  pid=$(cat "$folder/run/$name.pid" 2>/dev/null) || continue
  kill "$pid" 2>/dev/null || continue
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
done
for name in slurm gres; do
  [ "$(readlink "/etc/slurm/$name.conf")" = "$folder/$name.conf" ] && rm "/etc/slurm/$name.conf"
done
exit 0
