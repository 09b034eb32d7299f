#!/bin/sh
# Makes the registry's keys and tokens once, and hands each part of the fleet the few that it needs.
set -eu
ota-server init --data /data --keys /keys
hand() { # FILE FOLDER
  install -m 600 "$1" "$2/"
}
hand /keys/root.json /for-vehicles
hand /keys/enrolment.token /for-vehicles
hand /keys/operator.token /for-model-build
hand /keys/offline/targets.pem /for-model-build
