#!/bin/sh
# Checks helm/ and topics/ without a cluster. The first run installs the tools of requirements.txt into a cache; later runs need
# no network. Arguments go to check.py (-v lists every check).
set -eu
here=$(cd "$(dirname "$0")" && pwd)

if ! command -v python3 >/dev/null 2>&1; then
    echo "helm/check.sh needs Python 3.10 or newer with venv: apt-get install python3 python3-venv" >&2
    exit 1
fi

# Keyed by the pinned versions and by Python's own, so that a change of either gets a fresh folder.
key=$( (cat "$here/requirements.txt"; python3 -V) | sha256sum | cut -c1-16)
venv=${XDG_CACHE_HOME:-$HOME/.cache}/tidegate/venv-helm-$key
if [ ! -e "$venv/complete" ]; then
    mkdir -p "$(dirname "$venv")"
    # A half-made folder of an interrupted run is replaced, never mended.
    python3 -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    touch "$venv/complete"
fi
exec "$venv/bin/python" -B "$here/check.py" "$@"
