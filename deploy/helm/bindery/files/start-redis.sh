#!/bin/sh
# Start Redis with the users of this installation, or ask whether it answers (`probe`). Both names that server and client
# have: Valkey's, and Redis'.
set -eu

if [ "${1:-}" = probe ]; then
    answer=$("$(command -v valkey-cli || command -v redis-cli)" --user bindery-health --no-auth-warning ping 2>&1) || true
    [ "$answer" = PONG ] || { echo "Redis answers $answer"; exit 1; }
    exit 0
fi

sum() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

sed -e 's/\${NAME}/bindery/g' -e "s/\\\${PREFIX}/bindery:$INSTALLATION_ID/g" \
    -e "s/\\\${GATEWAY_SHA256}/$(sum "$GATEWAY_PASSWORD")/" -e "s/\\\${RESOLVER_SHA256}/$(sum "$RESOLVER_PASSWORD")/" \
    -e "s/\\\${BUILDER_SHA256}/$(sum "$BUILDER_PASSWORD")/" -e "s/\\\${WORKER_SHA256}/$(sum "$WORKER_PASSWORD")/" \
    -e "s/\\\${LAUNCHER_SHA256}/$(sum "$LAUNCHER_PASSWORD")/" -e "s/\\\${HEALTH_SHA256}/$(sum "$HEALTH_PASSWORD")/" \
    -e "s/\\\${ADMIN_SHA256}/$(sum "$ADMIN_PASSWORD")/" /etc/bindery/users.acl >/tmp/users.acl
exec "$(command -v valkey-server || command -v redis-server)" /etc/bindery/redis.conf \
    --aclfile /tmp/users.acl --maxmemory "$MAXMEMORY"
