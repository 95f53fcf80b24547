# shellcheck shell=sh
# Run by mmdebstrap after offline.sh, in the same way: fetches the packages that $PUSH_OFFERED names as well.
set -eu
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
export APT_CONFIG
# shellcheck disable=SC2086 # names without spaces, one word each
apt-get -q -y --no-install-recommends --download-only install $PUSH_OFFERED
cp "$1"/var/cache/apt/archives/*.deb "$1/opt/packages/"
