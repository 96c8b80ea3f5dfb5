#!/usr/bin/env bash
# A Debian system for 64-bit Arm in a folder, and commands in it under emulation: as root
#   bash platforms/linux/arm64_root.sh make ROOT [PACKAGE...]     Debian 12 and these packages, from this machine's own Debian mirror
#   bash platforms/linux/arm64_root.sh run ROOT COMMAND...        in that system; what lies in ROOT is all that it sees
# The emulator (qemu-user-static) is registered in a user namespace of the call's own (Linux 6.7): nothing of this machine changes.
set -euo pipefail
usage() { sed -n '3,4s/^# *//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
verb=$1 root=$2
shift 2
qemu=$(command -v qemu-aarch64-static) || { echo "arm64_root.sh: qemu-aarch64-static is missing (Debian: qemu-user-static)" >&2; exit 77; }
[ "$(id -u)" -eq 0 ] || { echo "arm64_root.sh: only root can give a namespace all users that Debian's packages know" >&2; exit 77; }

# Runs a command as root of a namespace where the kernel starts arm64 programs by the emulator.
emulated() {
  local magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00' mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  local row=":qemu-aarch64:M::$magic:$mask:$qemu:F" go code=0
  go=$(mktemp -u)
  mkfifo "$go"
  # The child waits until its users are known, then mounts and starts what was asked for.
  unshare --user --mount --pid --fork --kill-child bash -c '
    set -e
    read -r _ <"$1"
    mount -t proc proc "$3/proc"
    mount -t binfmt_misc binfmt_misc "$3/proc/sys/fs/binfmt_misc"
    printf %s "$2" >"$3/proc/sys/fs/binfmt_misc/register"
    shift 3
    exec "$@"' bash "$go" "$row" "$root" "$@" <&0 &
  local child=$!
  while [ "$(readlink /proc/$child/ns/user)" = "$(readlink /proc/self/ns/user)" ]; do sleep 0.02; done
  echo '0 0 65536' >/proc/$child/uid_map
  echo '0 0 65536' >/proc/$child/gid_map
  echo >"$go"
  rm "$go"
  wait $child || code=$?
  return $code
}

clean=(env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive TERM="${TERM:-dumb}")
case $verb in
  make)
    command -v debootstrap >/dev/null || { echo "arm64_root.sh: debootstrap is missing" >&2; exit 77; }
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -n 1)
    if [ ! -e "$root/debootstrap" ] && [ ! -e "$root/etc/debian_version" ]; then
      debootstrap --arch=arm64 --foreign --variant=minbase bookworm "$root" ${mirror:+"$mirror"}
    fi
    # A namespace may use devices and not make them; those in dev/ were made before.
    if [ -e "$root/debootstrap" ]; then
      sed -i 's|mknod "$1/test-dev-null" c 1 3|touch "$1/test-dev-null"|' "$root/debootstrap/functions"
      emulated "${clean[@]}" chroot "$root" /debootstrap/debootstrap --second-stage
    fi
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    for file in /etc/apt/apt.conf.d/*proxy*; do [ ! -f "$file" ] || cp "$file" "$root/etc/apt/apt.conf.d/"; done
    if [ $# -gt 0 ]; then
      # apt's own user has no right to the mapped folders of some machines.
      emulated "${clean[@]}" chroot "$root" sh -c 'apt-get -q -o APT::Sandbox::User=root update && apt-get -q -y -o APT::Sandbox::User=root install --no-install-recommends "$@"' sh "$@"
    fi
    ;;
  run)
    [ $# -gt 0 ] || usage
    [ -e "$root/etc/debian_version" ] || { echo "arm64_root.sh: $root is no Debian system; make it first" >&2; exit 1; }
    emulated "${clean[@]}" chroot "$root" "$@"
    ;;
  *) usage ;;
esac
