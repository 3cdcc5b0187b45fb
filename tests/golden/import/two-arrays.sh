# init
K22P=(443 2387 920 18357 50)
K8080P=(99 70000 1234)
KNOCKS=(5 6 9)
FILES=(a b c)
iptables -t filter -A KNOCK22 -p tcp --dport 22 -m recent --name KNOCKED22-5 --seconds 90 --rcheck -j ACCEPT
iptables -t filter -A KNOCK80 -p tcp --dport 8080 -m recent --name KNOCKED80-3 --seconds 90 --rcheck -j ACCEPT
