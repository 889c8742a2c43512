# shellcheck shell=bash
# One job: find TCP ports on 127.0.0.1 for servers (sourced by kafka.sh and postgres.sh).
# Guarantee: a port stays its folder's until the folder is gone, also while the server is down between kill and
# restart: each is claimed by a file naming the folder, and lies below Linux's outgoing ports (32768 and up).

# free_port DIR -> REPLY
free_port() {
  local claims=${XDG_CACHE_HOME:-$HOME/.cache}/tidegate/ports lock port
  mkdir -p "$claims"
  exec {lock}>"$claims/lock"
  flock "$lock"
  while :; do
    port=$((20000 + RANDOM % 12000))
    [[ -e $claims/$port && -d $(<"$claims/$port") ]] && continue
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue
    echo "$1" >"$claims/$port"
    REPLY=$port
    break
  done
  exec {lock}>&-
}
