"""Debian's rsyslog and syslog-ng as they are, run on loopback ports with configurations of our own."""
