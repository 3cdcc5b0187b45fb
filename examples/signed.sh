#!/bin/bash
# A signed datagram of toctoc with bash and OpenSSL 3, as docs/protocol.md describes it:
#
#     signed.sh FILE SOURCE BITS TIME       print it in hexadecimal. FILE holds the 64 digits of the secret. SOURCE is the
#                                           address that you send from, as 32 hexadecimal digits (IPv4: 24 digits
#                                           00000000000000000000ffff, and then the address), BITS how many of its bits
#                                           are signed: 128; 120 or 64 for its network; 0. TIME is in nanoseconds.
#     signed.sh send FILE HOST PORT SOURCE  send it from SOURCE, an address of IPv4, now
#
# The secret is on no command line: OpenSSL takes a key there alone, so that of the datagram's tag is seen by other users of
# this machine while openssl runs. Use it where there are none.
set -eu

bytes() { sed 's/../\\x&/g'; } # "00ff" -> "\x00\xff"

derive() { # HMAC-SHA-256 by its definition, so that the secret stays in this shell
    local inner outer
    inner=$(pad 36 "$secret"; printf 'toctoc signed %s v1' "$1" | od -An -v -tx1 | tr -d ' \n')
    inner=$(printf "$(printf %s "$inner" | bytes)" | openssl dgst -sha256 -binary | od -An -v -tx1 | tr -d ' \n')
    outer=$(pad 5c "$secret")$inner
    printf "$(printf %s "$outer" | bytes)" | openssl dgst -sha256 -binary | od -An -v -tx1 | tr -d ' \n'
}

pad() { # each byte of the key, filled up to 64, xor a byte
    local key at
    key=$2$(printf '%064d' 0)
    for ((at = 0; at < 128; at += 2)); do printf %02x $((0x${key:at:2} ^ 0x$1)); done
}

make() { # SOURCE BITS TIME
    local source=$1 bits=$2 at masked='' signed tag
    for ((at = 0; at < 32; at++)); do
        local left=$((bits - 4 * at))
        ((left < 0)) && left=0
        ((left > 4)) && left=4
        masked+=$(printf %x $((0x${source:at:1} & 0xf << (4 - left) & 0xf)))
    done
    signed=$(printf '%s01%02x0000%016x' "$(derive id | cut -c1-8)" "$bits" "$3")
    tag=$(printf "$(printf %s "$signed$masked" | bytes)" |
        openssl mac -macopt "hexkey:$(derive key | cut -c1-32)" -macopt size:16 -in - SIPHASH | tr -d ' \n' | tr A-F a-f)
    printf '%s%s' "$tag" "$signed"
}

if [ "$1" = send ]; then
    secret=$(tr -d ' \n' <"$2")
    IFS=. read -r a b c d <<<"$5"
    datagram=$(make "$(printf '00000000000000000000ffff%02x%02x%02x%02x' "$a" "$b" "$c" "$d")" 128 "$(date +%s%N)")
    printf "$(printf %s "$datagram" | bytes)" | dd bs=32 iflag=fullblock status=none >"/dev/udp/$3/$4"
else
    secret=$(tr -d ' \n' <"$1")
    make "$2" "$3" "$4"
    echo
fi
