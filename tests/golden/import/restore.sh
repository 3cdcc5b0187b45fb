#!/bin/sh
A=2011
iptables-restore -n <<EOF
*filter
:KNOCK - [0:0]
-A INPUT -j KNOCK
-A KNOCK -p tcp -m tcp --dport 22 -m recent --rcheck --seconds 30 --name K2 --rsource -j ACCEPT
-A KNOCK -p tcp -m tcp --dport 4099 -m recent --rcheck --seconds 9 --name K1 --rsource -m recent --set --name K2 --rsource -j DROP
-A KNOCK -p tcp -m tcp --dport $A -m recent --set --name K1 --rsource -j DROP
COMMIT
EOF
