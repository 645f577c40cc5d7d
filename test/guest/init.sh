#!/bin/busybox sh
# The first process of a test guest: mounts what a system needs, loads the modules that the test
# named, brings the network up and starts sshd.
/bin/busybox --install -s /bin
export PATH=/usr/bin:/bin
mkdir -p /proc /sys /dev /run /tmp /var/empty /mnt
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /run/sshd /run/lock
mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
ln -sf /proc/self/fd /dev/fd
while read -r module; do
  insmod "/lib/modules/$module" || echo "INGOT-GUEST-MODULE-FAILED $module"
done < /etc/modules.list
hostname guest
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
chmod 600 /etc/ssh/host_key
# Not by a shell that ends: the guest ends when sshd does, so that a broken one is seen at once.
/usr/bin/sshd -D -e -f /etc/ssh/sshd_config 2> /run/sshd.log &
echo INGOT-GUEST-READY
wait $!
cat /run/sshd.log
echo INGOT-GUEST-SSHD-ENDED
poweroff -f
