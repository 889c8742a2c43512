#!/usr/bin/env bash
# One job: put each defect that was mended back, one at a time, and see the generator find it.
#
# bites.sh [NAME...]: the patches of tests/draw/bites of these names, or all of them
#
# A patch begins with a line `takes back: ...` and a line `kind: ...`: one finding of the first seed that fails must be of
# that kind, or of one of them where it is `one|another`, and the seed must lead to no finding in the tree as it is. Where no seed can find its defect a line
# `test: --lib NAME` or `test: --test engine NAME` stands instead and names the test that does. The table for
# docs/generator.md is written to bites.md in the target folder. The exit code is 1 where a defect is not found.
#
# TIDEGATE_BITES_SEEDS: so many seeds are run at most (10000).
set -euo pipefail
cd "$(dirname "$0")/../.."

seeds=${TIDEGATE_BITES_SEEDS:-10000}
patches=$PWD/tests/draw/bites
names=("$@")
((${#names[@]})) || mapfile -t names < <(cd "$patches" && printf '%s\n' *.patch | sed 's/\.patch$//')

# A folder of its own, shared by all patches: each builds what it changes, and no good build is overwritten.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/tidegate/target}/bites
export CARGO_INCREMENTAL=1
# Most of the time goes into building the crate itself, once for each patch.
fast=(--config profile.draw.package.tidegate.opt-level=1 --config profile.draw.package.tidegate.codegen-units=64)
mkdir -p "$CARGO_TARGET_DIR"
table=$CARGO_TARGET_DIR/bites.md
log=$CARGO_TARGET_DIR/bites.log
printf '| Patch | Takes back | Found by |\n|---|---|---|\n' >"$table"

# Always at the same place: a build knows its sources by their path.
copy=$CARGO_TARGET_DIR/copy
remove() { git worktree remove --force "$copy" 2>/dev/null || rm -rf "$copy"; git worktree prune; }
remove
trap remove EXIT
git worktree add --quiet --detach "$copy" HEAD
# Uncommitted changes count as well.
git diff --binary HEAD | git -C "$copy" apply --allow-empty --whitespace=nowarn
git -C "$copy" add --all
git -C "$copy" -c user.name=bites -c user.email=bites@localhost commit --quiet --allow-empty --no-verify -m 'The tree to be patched'

header() { sed -n "s/^$1: //p;/^diff /q" "$patches/$2.patch"; }

build() { (cd "$copy" && cargo build "${fast[@]}" --locked --quiet --profile draw --no-default-features --example draw) >>"$log" 2>&1; }

# The generator without a defect.
whole=$CARGO_TARGET_DIR/draw-whole
: >"$log"
build || { echo 'the tree itself does not build'; exit 1; }
cp "$CARGO_TARGET_DIR/draw/examples/draw" "$whole"

# Prints by what the defect in the copy is found, if that is of the kind, or fails.
find_by_seeds() {
  build || { echo 'it does not build'; return 1; }
  local said
  if said=$(cd "$copy" && timeout 900 "$CARGO_TARGET_DIR/draw/examples/draw" until "$seeds" 2>&1); then
    echo "nothing in $seeds seeds"
    return 1
  fi
  said=$(grep '^seed ' <<<"$said") || { echo 'the generator itself does not end'; return 1; }
  echo "$said" >>"$log"
  local seed=${said%%:*}
  local kind
  kind=$(grep -oE "^$seed: ($1): " <<<"$said" | head -1) || true
  [ -n "$kind" ] || { echo "$seed, but for another reason: $(head -1 <<<"${said:0:200}")"; return 1; }
  kind=${kind#*: }
  "$whole" until 1 "${seed#seed }" >>"$log" || { echo "$seed, which fails without it as well"; return 1; }
  echo "$seed, \`${kind%: }\`"
}

find_by_test() {
  local words name said
  read -r -a words <<<"$1"
  name=${words[-1]}
  said=$(cd "$copy" && cargo test "${fast[@]}" --locked --quiet --profile draw --no-default-features "${words[@]:0:${#words[@]}-1}" -- \
    --exact "$name" 2>&1) && { echo "nothing: $name passes"; return 1; }
  echo "$said" >>"$log"
  grep -q '^test result: FAILED' <<<"$said" || { echo 'it does not build'; return 1; }
  echo "test \`$name\`"
}

found=0
for name in "${names[@]}"; do
  echo "== $name" >>"$log"
  git -C "$copy" reset --quiet --hard
  git -C "$copy" apply --whitespace=nowarn "$patches/$name.patch" 2>>"$log" || { echo "$name: does not apply"; continue; }
  test=$(header test "$name")
  if [ -n "$test" ]; then by=$(find_by_test "$test") && has=1 || has=0; else by=$(find_by_seeds "$(header kind "$name")") && has=1 || has=0; fi
  found=$((found + has))
  echo "$name: $by"
  printf '| `%s` | %s | %s |\n' "$name" "$(header 'takes back' "$name")" "$by" >>"$table"
done
echo "${#names[@]} defects put back, $found found"
((found == ${#names[@]}))
