#!/bin/bash
SEQ=(1001 25002 3003 41004)
LAST=$((${#SEQ[@]}-1))
i=0
while [ $i -le $LAST ]
do
  if [ "$i" -eq 0 ]
  then
    iptables -A INPUT -p tcp --dport ${SEQ[$i]} -m recent --name S0 --set -j DROP
  else
    iptables -A INPUT -p tcp --dport ${SEQ[$i]} -m recent --name S$((i-1)) --rcheck --seconds 9 -m recent --name S$i --set -j DROP
  fi
  let i=i+1
done
iptables -A INPUT -p tcp --dport 22 -m recent --name S$LAST --rcheck --seconds 60 -j ACCEPT
