# U-Boot script of the partition "boot": chooses the slot. Names and meaning are those RAUC uses with U-Boot:
# BOOT_ORDER="A B" is the order of preference, BOOT_x_LEFT how many starts the slot has left before it counts as broken.
# A start uses one up; the running system gives it back (slot-confirm.service), on a slot that was just installed (BOOT_TRIAL)
# only once notifyd is healthy.
# The state is two sectors with a CRC each, written one after the other: a cut between them leaves one that is whole.
setenv state 0x48000000
setenv image 0x50000000
part start virtio 0 bootstate first
setexpr second ${first} + 8

setenv BOOT_ORDER
virtio read ${state} ${first} 1
env import -c ${state} 0x200 BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT BOOT_TRIAL
if test -z "${BOOT_ORDER}"; then
  virtio read ${state} ${second} 1
  env import -c ${state} 0x200 BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT BOOT_TRIAL
fi
if test -z "${BOOT_ORDER}"; then
  echo "bootstate: no valid copy, starting with defaults"
  setenv BOOT_ORDER "A B"; setenv BOOT_A_LEFT 3; setenv BOOT_B_LEFT 3; setenv BOOT_TRIAL none
fi

setenv slot
for candidate in ${BOOT_ORDER}; do
  if test -z "${slot}"; then
    if test "${candidate}" = "A" && test ${BOOT_A_LEFT} -gt 0; then
      setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1; setenv slot a
    fi
    if test "${candidate}" = "B" && test ${BOOT_B_LEFT} -gt 0; then
      setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1; setenv slot b
    fi
  fi
done
if test -z "${slot}"; then
  echo "bootstate: no slot has a try left, giving both three"
  setenv BOOT_A_LEFT 3; setenv BOOT_B_LEFT 3
fi

env export -c -s 0x200 ${state} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT BOOT_TRIAL
virtio write ${state} ${first} 1
virtio write ${state} ${second} 1
if test -z "${slot}"; then reset; fi

echo "bootstate: slot ${slot}, order ${BOOT_ORDER}, left A=${BOOT_A_LEFT} B=${BOOT_B_LEFT}"
part start virtio 0 kernel_${slot} start
part size virtio 0 kernel_${slot} size
virtio read ${image} ${start} ${size}
if source ${image}:cmdline; then
  setenv bootargs "root=PARTLABEL=root_${slot} uos.slot=${slot} ${bootargs} ${extra_bootargs}"
  bootm ${image}#board ${image}#board ${fdtcontroladdr}
fi
echo "bootstate: slot ${slot} holds no bootable kernel"
if test "${slot}" = "a"; then setenv BOOT_A_LEFT 0; else setenv BOOT_B_LEFT 0; fi
env export -c -s 0x200 ${state} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT BOOT_TRIAL
virtio write ${state} ${first} 1
virtio write ${state} ${second} 1
reset
