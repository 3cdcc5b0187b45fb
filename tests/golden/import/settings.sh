#!/bin/bash
# knocks in variables, rules in others
IPT=$(which iptables)
KNOCK1=31337
KNOCK2=4021
KNOCK3="977"
SSH_PORT=2222 # not 22
TIMEOUT=30
NEW="-m conntrack --ctstate NEW"

$IPT -N PHASE1
$IPT -A PHASE1 -m recent --remove --name P0
$IPT -A PHASE1 -m recent --set --name P1 -j LOG --log-prefix "PHASE1: "
$IPT -N PHASE2
$IPT -A PHASE2 -m recent --remove --name P1
$IPT -A PHASE2 -m recent --set --name P2 -j LOG --log-prefix "PHASE2: "
$IPT -N PHASE3
$IPT -A PHASE3 -m recent --remove --name P2
$IPT -A PHASE3 -m recent --set --name P3 -j LOG --log-prefix "PHASE3: "
$IPT -A INPUT -m recent --update --name P0
$IPT -A INPUT -p tcp --dport ${KNOCK1} $NEW -j PHASE1
$IPT -A INPUT -p tcp --dport ${KNOCK2} $NEW -m recent --rcheck --seconds 8 --name P1 -j PHASE2
$IPT -A INPUT -p tcp --dport ${KNOCK3} $NEW -m recent --rcheck --seconds 8 --name P2 -j PHASE3
$IPT -A INPUT -p tcp --dport $SSH_PORT $NEW -m recent --rcheck --seconds $TIMEOUT --name P3 -j ACCEPT
