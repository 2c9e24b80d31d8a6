#!/bin/sh
# A file is what to serve with; commands and options are the registry's.
set -e
case $1 in
  *.yaml | *.yml) set -- registry serve "$@" ;;
  serve | garbage-collect | help | -*) set -- registry "$@" ;;
esac
exec "$@"
