#!/usr/bin/env bash
# One job: start Kafka and PostgreSQL for trying Tidegate by hand, and print the settings to use (make up).
# Usage: up.sh [1|3 brokers]. .tidegate/servers holds the path of the servers' folder, which lies in the temporary
# folder since root's PostgreSQL runs as another user. Run again, it starts what has ended and prints the settings.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
pointer=$here/../../.tidegate/servers
brokers=${1:-1}
unset TIDEGATE_PARENT_PID

if [[ -e $pointer && -d $(<"$pointer")/kafka ]]; then
  root=$(<"$pointer")
  while read -r broker how _; do
    [[ $how == up ]] || "$here/kafka.sh" restart "$root/kafka" "$broker" >/dev/null
  done < <("$here/kafka.sh" status "$root/kafka" || true)
  "$here/postgres.sh" status "$root/postgres" >/dev/null || "$here/postgres.sh" restart "$root/postgres" >/dev/null
  echo "# Servers are up already (make down ends them)."
else
  mkdir -p "${pointer%/*}"
  root=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-$UID-XXXXXX")
  chmod 711 "$root"
  echo "$root" >"$pointer"
  trap '"$here/down.sh" >&2' ERR
  "$here/kafka.sh" start "$root/kafka" "$brokers" >/dev/null
  "$here/postgres.sh" start "$root/postgres" >/dev/null
  trap - ERR
  echo "# Servers are up, data and logs in $root (make down ends them)."
fi

servers=$("$here/kafka.sh" status "$root/kafka" | sed 's/.* //' | paste -sd,)
url=$("$here/postgres.sh" status "$root/postgres")
cat <<SETTINGS
export TIDEGATE_KAFKA__BOOTSTRAP_SERVERS=$servers
export TIDEGATE_DATABASE__URL=${url#up }
# Paste the two lines above, then: tidegate topics apply --env dev --yes && tidegate migrate && tidegate run
SETTINGS
