#!/bin/sh
# The commands of the bundle that scripts/bundle-gpu.js makes: run-tests, run-bench and kvtier, by the name it is called.
# It uses the shell's own commands only, so that an empty environment will do.
case $0 in
*/*) here=${0%/*} ;;
*) here=. ;;
esac
here=$(CDPATH='' cd -- "$here" && pwd -P) || exit 1

LD_LIBRARY_PATH=$here/libraries/always${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
node=$here/bin/node
if ! "$node" --version >/dev/null 2>&1; then
  LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$here/libraries/runtime
fi
if ! said=$("$node" --version 2>&1); then
  printf '%s\n' "This host cannot run the bundle's Node: $said" "What it was made for is in $here/bundle.json." >&2
  exit 1
fi

case ${0##*/} in
run-tests) exec "$node" "$here/scripts/bundle-gpu/run-tests.js" "$@" ;;
run-bench)
  KVTIER_ADDON=${KVTIER_ADDON:-$here/build/Release/kvtier.node}
  export KVTIER_ADDON
  exec "$node" "$here/build/bench/bench/run.js" "$@"
  ;;
kvtier) exec "$node" "$here/dist/cli/kvtier.js" "$@" ;;
*)
  printf '%s\n' "Call it as $here/run-tests, $here/run-bench or $here/kvtier." >&2
  exit 2
  ;;
esac
