#!/bin/sh
# Options, and commands of traefik, are for traefik.
set -e
case $1 in
  -* | healthcheck | version) set -- traefik "$@" ;;
esac
exec "$@"
