# shellcheck shell=sh
# Run by mmdebstrap once an image is there, with the image's folder as $1: apt, told to work for the image,
# fetches what a bootstrap may want and all that it depends on, and installs nothing.
set -eu
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
export APT_CONFIG
apt-get -q -y --no-install-recommends --download-only install \
    ca-certificates certbot curl locales nftables nginx sqlite3 sudo tzdata unattended-upgrades
mkdir -p "$1/opt/packages"
cp "$1"/var/cache/apt/archives/*.deb "$1/opt/packages/"
