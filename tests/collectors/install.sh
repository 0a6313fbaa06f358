#!/bin/sh
# Unpacks Debian's rsyslog, syslog-ng and promtool below the folder given, without installing them: the first two conflict
# as packages, and a test machine's own logging is not ours to replace. Needs no root.
set -eu
target=$1
mkdir -p "$target/packages"
cd "$target/packages"
# Besides the two daemons, the libraries that a minimal Debian does not have.
apt-get -qq -o APT::Sandbox::User=root download rsyslog rsyslog-openssl syslog-ng-core libestr0 libfastjson4 liblognorm5 libivykis0 libnet1 libwrap0 \
	prometheus libjson-c5 libglib2.0-0 libcap2 libpcre3
for package in *.deb; do dpkg -x "$package" ..; done
rm -- *.deb ../usr/bin/prometheus
