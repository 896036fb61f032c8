#!/bin/sh
# Makes the user, and tells systemd of the unit. A service that runs already goes on with the new version; otherwise
# nothing is started: the configuration has to be written first. The package is whole, also when the service does not
# start.
set -e
if [ -d /run/systemd/system ]; then
  systemd-sysusers /usr/lib/sysusers.d/snapshotd.conf
  systemctl daemon-reload
  systemctl try-restart snapshotd.service ||
    echo 'snapshotd was upgraded and does not start: journalctl -u snapshotd says why' >&2
fi
