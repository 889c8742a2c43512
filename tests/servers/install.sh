#!/usr/bin/env bash
# One job: install the system packages which are missing (root on Debian or Ubuntu), or say what to install.
# Usage: install.sh [--check] [kafka] [postgres] [build] [store] [pooler] [browser]; without a name: kafka postgres build.
#   store (libclang, for building RocksDB) is large, pooler (PgBouncer) for a few tests, browser (Chromium) for the pages: only asked for by name.
# Exit: 0 all there, 1 missing (--check), 78 missing and not mine to install.
set -euo pipefail

has() { command -v "$1" >/dev/null; }

# The release file spares starting a JVM.
has_java() {
  has java || return 1
  local release
  release=$(readlink -f "$(command -v java)")
  release=${release%/bin/java}/release
  [[ -r $release ]] && [[ $(<"$release") =~ JAVA_VERSION=\"([0-9]+) ]] && ((BASH_REMATCH[1] >= 17))
}

has_postgres() {
  local binary
  for binary in "${PG_BIN:-/nonexistent}"/initdb /usr/lib/postgresql/{15,16,17,18}/bin/initdb; do
    [[ ! -x $binary ]] || return 0
  done
  return 1
}

has_libclang() {
  compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null
}

# Package names; "a|b": b where the distribution has no a.
missing() {
  local group
  for group; do
    case $group in
      kafka)
        has_java || echo 'openjdk-17-jdk-headless|default-jdk-headless'
        has mvn || echo maven
        ;;
      postgres)
        has_postgres || echo 'postgresql-15|postgresql'
        ;;
      build)
        { has cc && has c++ && has make; } || echo build-essential
        has cmake || echo cmake
        if has pkg-config; then
          pkg-config --exists openssl || echo libssl-dev
          pkg-config --exists zlib || echo zlib1g-dev
        else
          printf '%s\n' pkg-config libssl-dev zlib1g-dev
        fi
        ;;
      store)
        has_libclang || echo libclang-dev
        ;;
      pooler)
        [[ -x /usr/sbin/pgbouncer || -x /usr/bin/pgbouncer ]] || echo pgbouncer
        ;;
      browser)
        [[ -x /usr/bin/chromium ]] || echo chromium
        has node || echo nodejs
        has npm || echo npm
        ;;
      *)
        echo "install.sh: no such group: $group" >&2
        return 64
        ;;
    esac
  done
}

check=
[[ ${1:-} != --check ]] || { check=yes; shift; }
(($#)) || set -- kafka postgres build

wanted=$(missing "$@")
[[ -n $wanted ]] || exit 0
names=$(cut -d'|' -f1 <<<"$wanted" | paste -sd' ')
if [[ -n $check ]]; then
  echo "missing: $names"
  exit 1
fi
if ((EUID)) || ! has apt-get; then
  echo "install.sh: install these packages (Debian's names), then run again: $names" >&2
  exit 78
fi

# Two test processes may both be here: the second finds all installed.
mkdir -p "${XDG_CACHE_HOME:-$HOME/.cache}/tidegate"
exec 9>"${XDG_CACHE_HOME:-$HOME/.cache}/tidegate/install.lock"
flock 9
wanted=$(missing "$@")
[[ -n $wanted ]] || exit 0
echo "install.sh: installing $names" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >&2
packages=()
while IFS='|' read -r first second; do
  [[ -z $second || -n $(apt-cache madison "$first") ]] || first=$second
  packages+=("$first")
done <<<"$wanted"
apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "${packages[@]}" >&2
left=$(missing "$@")
[[ -z $left ]] || { echo "install.sh: still missing after apt-get: ${left//$'\n'/ }" >&2; exit 78; }
