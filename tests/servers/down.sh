#!/usr/bin/env bash
# One job: end the servers which up.sh started and remove their folder (make down).
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
pointer=$here/../../.tidegate/servers
[[ -e $pointer ]] || { echo "No servers are up."; exit 0; }
root=$(<"$pointer")
"$here/kafka.sh" remove "$root/kafka"
"$here/postgres.sh" remove "$root/postgres"
[[ ! -d $root ]] || rmdir "$root"
rm -f "$pointer"
echo "Servers are down."
