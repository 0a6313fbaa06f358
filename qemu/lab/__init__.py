"""The lab: the board's image under QEMU with a LAN and a WAN, shaped like labgrid (drivers, strategy, environment
file).
"""
