#!/bin/sh
# Makes the user, and tells systemd of the unit. Nothing is started: the configuration has to be written first.
set -e
if [ -d /run/systemd/system ]; then
  systemd-sysusers /usr/lib/sysusers.d/snapshotd.conf
  systemctl daemon-reload
fi
