#!/bin/sh
# An engine with the arguments that it is given; without any it would listen on TCP, which nobody here wants.
set -eu
if [ "$#" -eq 0 ] || [ "${1#-}" != "$1" ]; then
  echo "dockerd-entrypoint.sh: name the program, dockerd" >&2
  exit 2
fi
[ "$1" = dockerd ] || exec "$@"
[ -z "${DOCKER_TLS_CERTDIR:-}" ] || echo "dockerd-entrypoint.sh: no certificates are made here" >&2
find /run -name 'docker*.pid' -delete

# With cgroups of version 2, processes are in leaves alone.
root=/sys/fs/cgroup
if [ -f "$root/cgroup.controllers" ]; then
  mkdir -p "$root/init"
  while read -r pid; do
    echo "$pid" >"$root/init/cgroup.procs" || :
  done <"$root/cgroup.procs"
  sed 's/[^ ]*/+&/g' "$root/cgroup.controllers" >"$root/cgroup.subtree_control"
fi
exec "$@"
