# shellcheck shell=bash
# One job: begin and end server processes by their id (sourced by kafka.sh and postgres.sh; Linux, needs /proc).
# Guarantee: a process begun here holds no file, terminal or folder of its caller, so that a pipe read by a test ends.
# Never: signals a process which does not carry the server folder's name in its command line (ids are re-used).

fail() {
  echo "${0##*/}: $1" >&2
  exit "${2:-1}"
}

# absolute DIR -> REPLY; DIR must exist
absolute() {
  [[ -d $1 ]] || fail "no such folder: $1" 66
  REPLY=$(cd -- "$1" && pwd -P)
}

# new_folder DIR -> REPLY; empty, so that removing it whole is safe
new_folder() {
  mkdir -p -- "$1"
  absolute "$1"
  [[ -z $(ls -A -- "$REPLY") ]] || fail "start needs a new or empty folder, and $REPLY is not (restart keeps data)" 73
}

# begin PID_FILE LOG COMMAND...: COMMAND in a session of its own; its id -> REPLY and PID_FILE
begin() {
  local pid_file=$1 log=$2
  shift 2
  (
    cd /
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      ((fd <= 2)) || eval "exec $fd>&-"
    done
    echo "$BASHPID" >"$pid_file" # by the child, so that no process lives without its id on disk
    exec setsid "$@"
  ) </dev/null >>"$log" 2>&1 &
  REPLY=$!
}

# state PID -> REPLY, one letter; fails when PID is gone or waits to be reaped
state() {
  { read -r REPLY <"/proc/$1/stat"; } 2>/dev/null || return 1
  REPLY=${REPLY##*) }
  REPLY=${REPLY%% *}
  [[ $REPLY != [ZX] ]]
}

# running PID_FILE WORD: is the process alive and WORD in its command line? Its id -> REPLY
running() {
  local pid words
  { read -r pid <"$1"; } 2>/dev/null && state "$pid" || return 1
  { mapfile -d '' -t words <"/proc/$pid/cmdline"; } 2>/dev/null || return 1
  REPLY=$pid
  [[ "${words[*]}" == *"$2"* ]]
}

# gone_within SECONDS PID...
gone_within() {
  local until=$((SECONDS + $1 + 1)) pid
  shift
  for pid; do
    while state "$pid"; do
      ((SECONDS < until)) || return 1
      sleep 0.05
    done
  done
}

# watch_parent DIR: when TIDEGATE_PARENT_PID is set, DIR and its servers go when that process goes
watch_parent() {
  [[ -n ${TIDEGATE_PARENT_PID:-} ]] || return 0
  # shellcheck disable=SC2154 # here: set by the script which sources this
  begin "$1/watcher.pid" /dev/null bash "$here/watch.sh" "$TIDEGATE_PARENT_PID" "$here/${0##*/}" "$1"
}

# share DIR: begin a command which the watcher's remove (alone DIR) must not cut in half
share() {
  exec 9>>"$1/lock"
  flock -s 9
}

alone() {
  exec 9>>"$1/lock"
  flock -w 90 9 || true # a command which hangs must not keep servers alive
}
