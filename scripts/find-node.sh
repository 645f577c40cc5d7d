# shellcheck shell=sh
# Sourced by the entry points. Sets ROOT, and puts Node 24 first in PATH: the one that this
# checkout installed, after installing it where it is missing.
#
# Usage: ROOT=… ; ingot_need prod|all ; . scripts/find-node.sh
# Node and every package come from the npm registry through pnpm with the frozen lock file; no
# install script runs.

INGOT_PNPM=pnpm@12.21.0

ingot_say() { printf 'ingot: %s\n' "$*" >&2; }

# The stamp holds the lock file's checksum and which packages were installed, so that an update of
# the checkout installs again.
ingot_stamp() { cksum < "$ROOT/pnpm-lock.yaml"; }

ingot_ready() {
  stamp=$ROOT/node_modules/.ingot-setup
  [ -x "$ROOT/node_modules/.bin/node" ] && [ -f "$stamp" ] || return 1
  { read -r stamped_sum && read -r stamped_kind; } < "$stamp" || return 1
  [ "$stamped_sum" = "$(ingot_stamp)" ] || return 1
  [ "$1" = prod ] || [ "$stamped_kind" = all ]
}

ingot_setup() {
  ingot_ready "$1" && return 0
  if ! command -v npx >/dev/null 2>&1; then
    ingot_say 'npx is not on PATH; install Node 20 or later with npm (on Debian: apt-get install nodejs npm)'
    exit 57
  fi
  ingot_say "installing what it needs ($1) into $ROOT/node_modules; this happens once"
  set -- "$1" --frozen-lockfile --config.confirmModulesPurge=false
  [ "$1" = all ] || set -- "$@" --prod
  kind=$1
  shift
  # One installer at a time: a second call waits for the first and then finds the stamp.
  (
    flock 9 2>/dev/null || true
    ingot_ready "$kind" && exit 0
    cd "$ROOT" && CI=true npx -y "$INGOT_PNPM" install "$@" >&2 || exit 57
    { ingot_stamp; echo "$kind"; } > node_modules/.ingot-setup
  ) 9> "$ROOT/.ingot-setup.lock" || exit $?
}

PATH=$ROOT/node_modules/.bin:$PATH
export PATH
