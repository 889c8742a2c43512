#!/usr/bin/env bash
# One job: run a real PostgreSQL server for tests and for trying, superuser and database both named tidegate.
# Guarantee: start and restart return when the server takes connections (restart: after crash recovery); kill and
# stop, when all its processes are gone. Commits are on disk (fsync), so that kill tests what a crash would.
# Never: touches a process or folder other than DIR's. Anybody on 127.0.0.1 may log in without a password.
#
# postgres.sh start DIR    new server in a new or empty DIR; last line: postgres://tidegate@127.0.0.1:PORT/tidegate
# postgres.sh stop DIR     fast shutdown, SIGKILL after 10 s; data and port stay
# postgres.sh abort DIR    immediate shutdown: no checkpoint, so that the next start recovers
# postgres.sh freeze DIR   SIGSTOP to all its processes; thaw DIR: SIGCONT
# postgres.sh kill DIR     SIGKILL to all its processes at once; what they had written to the system survives
# postgres.sh restart DIR  ended first where it runs; same data, same port; last line as of start
# postgres.sh status DIR   up|down and the URL; exit 1 unless up
# postgres.sh remove DIR   as kill, then DIR removed
#
# Run by root it works as the system's user postgres, so DIR must lie where that user may go, such as below /tmp.
# TIDEGATE_PARENT_PID: with start; when that process is gone, remove DIR.
# PG_BIN: folder of initdb and postgres, version 15 or newer.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=process.sh
source "$here/process.sh"
# shellcheck source=port.sh
source "$here/port.sh"

# -> bin, as (words before a command which the server's user runs)
find_binaries() {
  local folder
  for folder in "${PG_BIN:-/nonexistent}" /usr/lib/postgresql/{15,16,17,18}/bin; do
    [[ ! -x $folder/initdb ]] || break
  done
  bin=$folder
  as=()
  ((EUID)) || as=(setpriv --reuid postgres --regid postgres --init-groups)
}

launch() {
  local seen until=$((SECONDS + 60)) lines
  seen=$(stat -c %s "$dir/log")
  begin "$dir/pid" "$dir/log" "${as[@]}" "$bin/postgres" -D "$dir/data"
  local pid=$REPLY
  # Line 8 of postmaster.pid is the server's own word on its state; line 1 tells this server from one which was killed.
  until { mapfile -t lines <"$dir/data/postmaster.pid"; } 2>/dev/null &&
    [[ ${lines[0]:-} == "$pid" && ${lines[7]:-} == ready* ]]; do
    if ! state "$pid" || ((SECONDS >= until)); then
      tail -c +$((seen + 1)) "$dir/log" | tail -n 20 >&2
      kill -KILL "$pid" 2>/dev/null || true
      fail "PostgreSQL is not up, see above and $dir/log" 69
    fi
    sleep 0.02
  done
}

url() { echo "postgres://tidegate@127.0.0.1:$(<"$dir/port")/tidegate"; }

stop_server() {
  running "$dir/pid" "$dir" || return 0
  kill -INT "$REPLY"
  gone_within 10 "$REPLY" || kill_server
}

abort_server() {
  running "$dir/pid" "$dir" || return 0
  kill -QUIT "$REPLY"
  gone_within 10 "$REPLY" || kill_server
}

# -> pids: the server and its children. Stopped first: else it would fork a child between the listing and what follows,
# or see one die and begin recovery.
stop_and_list() {
  running "$dir/pid" "$dir" || return 1
  local child stat
  pids=("$REPLY")
  kill -STOP "$REPLY"
  for child in /proc/[0-9]*/stat; do
    { read -r stat <"$child"; } 2>/dev/null || continue
    [[ ${stat##*) } != ?" ${pids[0]} "* ]] || pids+=("${child//[^0-9]/}")
  done
}

# signal_all SIGNAL: to whoever of them is still there
signal_all() {
  stop_and_list || fail "the server in $dir does not run" 69
  kill "-$1" "${pids[@]}" 2>/dev/null || true
}

kill_server() {
  local pids
  stop_and_list || return 0
  kill -KILL "${pids[@]}" 2>/dev/null || true
  gone_within 10 "${pids[@]}" || fail "processes ${pids[*]} outlive SIGKILL"
  # A dead process which nobody reaped (containers without init) passes for a running server in lock files.
  rm -f "$dir/data/postmaster.pid" "$dir/socket/".s.PGSQL.*
}

command=${1:-help}
case $command in
  start)
    new_folder "${2:?DIR}"
    dir=$REPLY
    # A socket's path has 107 bytes at most (sun_path in unix(7)).
    ((${#dir} <= 80)) || fail "the path of DIR is too long for a socket inside it: $dir" 64
    "$here/install.sh" postgres
    find_binaries
    share "$dir"
    watch_parent "$dir"
    mkdir "$dir/data" "$dir/socket"
    ((EUID)) || chown postgres "$dir/data" "$dir/socket"
    ((EUID)) || chmod 711 "$dir"
    "${as[@]}" test -x "$dir/data" || fail "the user postgres may not enter $dir, choose a folder below /tmp" 77
    (
      cd /
      "${as[@]}" "$bin/initdb" -D "$dir/data" -U tidegate -A trust --no-sync --no-instructions \
        --locale=C --encoding=UTF8 </dev/null >"$dir/log" 2>&1
    ) || { tail -n 20 "$dir/log" >&2; fail "initdb failed, see above"; }
    free_port "$dir"
    echo "$REPLY" >"$dir/port"
    cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $REPLY
unix_socket_directories = '$dir/socket'
max_connections = 200
shared_buffers = 256MB
fsync = on
wal_compression = lz4
max_wal_size = 4GB
checkpoint_timeout = 15min
log_line_prefix = '%m [%p] %u '
CONF
    launch
    "$bin/createdb" -h "$dir/socket" -p "$(<"$dir/port")" -U tidegate tidegate || {
      kill_server
      fail "could not create the database, see above and $dir/log"
    }
    url
    ;;
  stop | abort | freeze | thaw | kill | restart | status | remove)
    [[ $command != remove || -d ${2:?DIR} ]] || exit 0
    absolute "${2:?DIR}"
    dir=$REPLY
    [[ -e $dir/lock ]] || fail "$dir is no folder of mine" 66
    case $command in
      stop) stop_server ;;
      abort) abort_server ;;
      freeze) signal_all STOP ;;
      thaw) signal_all CONT ;;
      kill) kill_server ;;
      restart)
        share "$dir"
        find_binaries
        stop_server
        launch
        url
        ;;
      status)
        how=down
        ! running "$dir/pid" "$dir" || how=up
        echo "$how $(url)"
        [[ $how == up ]]
        ;;
      remove)
        alone "$dir"
        kill_server
        rm -rf "$dir"
        ;;
    esac
    ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac
