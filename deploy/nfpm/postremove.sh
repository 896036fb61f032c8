#!/bin/sh
# The unit is gone. The user and /var/lib/snapshotd stay: a snapshot that no backend took, and the end of a journal, may
# be there alone.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
