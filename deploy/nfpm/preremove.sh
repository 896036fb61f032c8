#!/bin/sh
# Stops the service when the package goes, and not when another version takes its place: Debian says "remove" then, and
# Red Hat that 0 versions stay.
set -e
case ${1:-} in
remove | 0)
  if [ -d /run/systemd/system ]; then
    systemctl disable --now snapshotd.service
  fi
  ;;
esac
