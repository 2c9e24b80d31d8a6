#!/bin/sh
# Remove images and cache while the disk with them is fuller than DISK_PERCENT, oldest first. Each image is in the
# registry, too: who needs it again, pulls it.
set -eu

used() { df -P "$DATA_FOLDER" | awk 'NR == 2 { print $5 + 0 }'; }
full() { [ "$(used)" -ge "$DISK_PERCENT" ]; }

# Not the images of the last hour: they may be about to be pushed.
clean() {
    docker image prune --all --force --filter until=1h || return
    ! full || docker builder prune --all --force --filter until=24h || return
    ! full || docker builder prune --all --force
}

trap "exit 0" TERM
while :; do
    if full; then
        echo "The disk is $(used) % full"
        clean | tail -n 1
        echo "Now it is $(used) % full"
    fi
    sleep "$EVERY_SECONDS" &
    wait $!
done
