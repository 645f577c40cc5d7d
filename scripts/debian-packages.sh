# Sourced by scripts/test and scripts/demo: the real peers that the tests speak to.

INGOT_DEBIAN_PACKAGES='e2fsprogs util-linux xfsprogs btrfs-progs dosfstools mtools fdisk gdisk
  libisal2 isal pigz gzip xz-utils zstd 7zip busybox-static libarchive-tools ruby perl python3
  mender-artifact openssh-server openssh-client sudo qemu-utils nbdkit iproute2 curl
  partclone procps'

# Installs what is missing when root; says what is left out otherwise.
ingot_debian_packages() {
  missing=
  for package in $INGOT_DEBIAN_PACKAGES; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    ingot_say "not root, so the tests that need these Debian packages are skipped:$missing"
    return 0
  fi
  ingot_say "installing Debian packages:$missing"
  # shellcheck disable=SC2086 # a list of names
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null ||
    ingot_say 'apt-get ended with an error; tests whose peer is missing are skipped by name'
}
