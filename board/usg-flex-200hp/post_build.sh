#!/bin/sh
# The board's last step on the root tree ($1): what no package and no overlay file brings. Must not use the network.
set -eu
root=$1

# Programs by the names that are asked for.
ln -sf python3.13 "$root/usr/bin/python3"
[ -e "$root/usr/bin/sh" ] || ln -s dash "$root/usr/bin/sh"
[ -e "$root/usr/sbin/init" ] || ln -s ../lib/systemd/systemd "$root/usr/sbin/init"
# What an administrator or a script expects and no package brought.
for applet in awk clear cmp diff find free grep gunzip gzip hexdump kill killall less nc nslookup pgrep ping ps sed sysctl tar top \
    traceroute uptime vi watch wget xargs; do
    [ -e "$root/usr/bin/$applet" ] || [ -e "$root/usr/sbin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
done
for name in notifyctl sendmail; do
    module=notifyd.$([ $name = notifyctl ] && echo ctl || echo sendmail)
    printf '#!/bin/sh\nexec env PYTHONPATH=/usr/lib/notifyd /usr/bin/python3 -m %s "$@"\n' "$module" > "$root/usr/sbin/$name"
    chmod 755 "$root/usr/sbin/$name"
done

# Trust: one bundle, where OpenSSL and Python look for it.
mkdir -p "$root/etc/ssl/certs" "$root/usr/lib/ssl"
find "$root/usr/share/ca-certificates" -name '*.crt' | LC_ALL=C sort | while read -r certificate; do
    cat "$certificate"; echo
done > "$root/etc/ssl/certs/ca-certificates.crt"
ln -sfn /etc/ssl/certs/ca-certificates.crt "$root/usr/lib/ssl/cert.pem"

# The root is read-only: what must be written lies elsewhere.
mkdir -p "$root/data" "$root/rw"
rm -f "$root/etc/machine-id" "$root/etc/fstab" "$root/etc/locale.conf" "$root/rw/fwversion"
: > "$root/etc/machine-id"
ln -sfn /run/systemd/resolve/resolv.conf "$root/etc/resolv.conf"
ln -sfn /usr/share/zoneinfo/UTC "$root/etc/localtime"
rm -rf "$root/etc/notifyd/clouds.d"
ln -sfn /data/clouds.d "$root/etc/notifyd/clouds.d"   # a private cloud is the administrator's, so it survives upgrades
ln -sfn multi-user.target "$root/usr/lib/systemd/system/default.target"
rm -f "$root/etc/mtab" && ln -s ../proc/self/mounts "$root/etc/mtab"
echo 'LANG=C.UTF-8' > "$root/etc/locale.conf"
: > "$root/etc/fstab"

# Accounts start from Debian's fixed ones; systemd-sysusers has added ours.
mkdir -p "$root/usr/share/board"
cp "$BOARD_DIR/README.md" "$BOARD_DIR/board.toml" "$root/usr/share/board/"
sed -e "s/@MODEL_ID@/$MODEL_ID/" -e "s/@FIRMWARE_VERSION@/$FIRMWARE_VERSION/" -e "s/@BUILD_DATE@/$BUILD_DATE/" \
    -e "s/@KERNEL_VERSION@/$(ls "$root/usr/lib/modules")/" "$BOARD_DIR/fwversion.in" > "$root/rw/fwversion"

# The packages' own wishes for what to start are dropped; this is all that starts besides what the preset file enables.
for target in local-fs sockets sysinit multi-user timers; do rm -rf "$root/usr/lib/systemd/system/$target.target.wants"; done
want() {
    target=$1; shift
    mkdir -p "$root/usr/lib/systemd/system/$target.target.wants"
    for unit; do ln -s "../$unit" "$root/usr/lib/systemd/system/$target.target.wants/$unit"; done
}
want local-fs tmp.mount run-lock.mount
want sysinit systemd-journald.service systemd-sysctl.service systemd-tmpfiles-setup.service systemd-udev-trigger.service \
    systemd-udevd.service
want sockets systemd-journald.socket systemd-journald-dev-log.socket systemd-udevd-control.socket systemd-udevd-kernel.socket
want multi-user getty.target
want timers systemd-tmpfiles-clean.timer
rm -rf "$root/etc/systemd/system/network-online.target.wants"
