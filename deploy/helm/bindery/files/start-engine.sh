#!/bin/sh
# Start the engine of this node. It first sees to what steps of builds may use of the pod's memory and its network.
#
# OWN_MEMORY_MIB is what the engine itself needs of the pod's memory limit, MTU the largest packet of steps (0: that of
# the pod's own network), REGISTRY_PORT the bundled registry's port, if there is one, and ROOT the root of all files below,
# for tests.
set -eu

cgroups=${ROOT:-}/sys/fs/cgroup

# With version 2 of cgroups, a privileged pod sees those of the whole node, and the engine would put steps beside the
# pod, where the pod's limit does not count. So the engine sees the pod's own as all that there is.
if [ -f "$cgroups/cgroup.controllers" ]; then
    own=$(sed -n 's/^0:://p' "${ROOT:-}/proc/self/cgroup")
    [ "$own" = / ] || mount --bind "$cgroups$own" "$cgroups"
    mkdir -p "$cgroups/init"
    echo $$ >"$cgroups/init/cgroup.procs"
    sed 's/[^ ]\{1,\}/+&/g' "$cgroups/cgroup.controllers" >"$cgroups/cgroup.subtree_control"
    limit=$(cat "$cgroups/memory.max" 2>/dev/null || echo max)
    steps=$cgroups/docker steps_limit=memory.max
else
    limit=$(cat "$cgroups/memory/memory.limit_in_bytes" 2>/dev/null || echo max)
    steps=$cgroups/memory/docker steps_limit=memory.limit_in_bytes
fi

# Steps have a limit of their own below the pod's. Whoever exceeds it is killed alone: at the pod's limit Kubernetes has
# all processes of the container killed, the engine and each build of the node. Without a limit, version 1 has a number
# of 19 digits.
if [ "$limit" != max ] && [ ${#limit} -lt 19 ]; then
    left=$((limit - OWN_MEMORY_MIB * 1048576))
    if [ "$left" -le 0 ]; then
        echo "The engine's memory limit of $limit bytes leaves none to steps: $OWN_MEMORY_MIB MiB are its own" >&2
        exit 1
    fi
    mkdir -p "$steps"
    echo "$left" >"$steps/$steps_limit"
fi

# Larger packets than the pod's network has get lost: downloads in steps would hang.
if [ "$MTU" = 0 ]; then
    device=$(awk '$2 == "00000000" { print $1; exit }' "${ROOT:-}/proc/net/route")
    MTU=$(cat "${ROOT:-}/sys/class/net/$device/mtu" 2>/dev/null || echo 0)
fi
[ "$MTU" = 0 ] || set -- "$@" "--mtu=$MTU"

# The bundled registry has no login, so no step, which is code of strangers, may write to it: their packets to its port go
# no further. The engine itself goes another way, from its own network.
if [ -n "${REGISTRY_PORT:-}" ]; then
    closed="! -i lo -p tcp --dport $REGISTRY_PORT -j DROP"
    iptables -t mangle -A PREROUTING $closed || iptables-legacy -t mangle -A PREROUTING $closed
fi

# While there is no engine there is no socket either: builds that start then wait for the next one. Those that found the
# socket of an engine that is gone would fail at once.
socket=${DOCKER_HOST#unix://}
rm -f "$socket"
dockerd-entrypoint.sh "$@" &
engine=$!
trap 'kill -TERM "$engine"' TERM INT
status=0
wait "$engine" || status=$?
while kill -0 "$engine" 2>/dev/null; do # the signal was passed on: the engine has its time
    status=0
    wait "$engine" || status=$?
done
rm -f "$socket"
exit "$status"
