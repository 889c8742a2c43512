#!/usr/bin/env bash
# One job: wait until a process is gone, then remove a server folder (begun by watch_parent in process.sh).
# Usage: watch.sh PID SCRIPT DIR; ends by itself when DIR is gone.
set -euo pipefail
parent=$1 script=$2 dir=$3

# State and start time: a re-used id has another start time, a process nobody reaps is in state Z.
identity() {
  local stat
  { read -r stat <"/proc/$parent/stat"; } 2>/dev/null || return 1
  read -ra stat <<<"${stat##*) }"
  [[ ${stat[0]} != [ZX] ]] && REPLY=${stat[19]}
}

REPLY=
identity && born=$REPLY || born=gone
while [[ -d $dir ]] && identity && [[ $REPLY == "$born" ]]; do
  sleep 0.5
done
[[ ! -d $dir ]] || exec bash "$script" remove "$dir"
