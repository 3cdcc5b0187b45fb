//! Every setting of the policy file in words: the manual page is made of it.

/// A setting.
#[derive(Debug)]
pub struct Setting {
    pub name: &'static str,
    /// The values that it may have.
    pub value: &'static str,
    /// The value when it is left out; empty where it must be there, or is nothing then.
    pub default: &'static str,
    pub text: &'static str,
}

/// A section of the file, with its settings.
#[derive(Debug)]
pub struct Part {
    /// As it stands in the file; empty for the top.
    pub header: &'static str,
    pub text: &'static str,
    pub settings: &'static [Setting],
}

const fn setting(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    text: &'static str,
) -> Setting {
    Setting {
        name,
        value,
        default,
        text,
    }
}

const OPEN_FOR: &str = "How long a grant lasts. That of the key goes before that of the door, and that \
                        before the one at the top of the file.";

/// The command that shows the manual of policies, also where nothing is installed.
pub const POLICY_MANUAL: &str = "toctoc man policy | man -l -";

/// The whole file.
pub const PARTS: &[Part] = &[
    Part {
        header: "",
        text: "These stand before the first section.",
        settings: &[
            setting(
                "within",
                "a time, 1s to 1h",
                "10s",
                "The longest pause between two knocks. Who pauses longer begins anew.",
            ),
            setting("open_for", "a time, 1s to 30d", "60s", OPEN_FOR),
            setting(
                "interfaces",
                "a list of names",
                "all but loopback",
                "Where doors are shut and knocks are heard. An alternative name stands for its interface; of a \
                 bridge, bond or VRF name the whole, where packets arrive.",
            ),
            setting(
                "ignore",
                "a list of ports",
                "none",
                "Ports whose packets are never knocks, not even wrong ones: those that clients use \
                 all the time.",
            ),
            setting(
                "closed",
                "\"drop\" or \"reject\"",
                "drop",
                "What strangers meet at a shut door: silence, or what a closed port answers.",
            ),
            setting(
                "log",
                "\"kernel\", \"nflog:GROUP\" or \"off\"",
                "kernel",
                "Where openings are logged, with door, key and source.",
            ),
            setting(
                "max_sources",
                "a number, 256 to 1048576",
                "65536",
                "How many sources may be midway, and how many may hold grants. With iptables the \
                 kernel's own lists decide.",
            ),
            setting(
                "token_port",
                "a port",
                "",
                "The UDP port that tokens and signed datagrams come to. It must be there when a key has a token or is signed.",
            ),
            setting(
                "token_horizon",
                "a time, 1h to 24h",
                "6h",
                "How far ahead tokens are loaded: so long they last when nobody calls \
                 `toctoc refill`.",
            ),
            setting(
                "signed_mark",
                "a number",
                "0x74637463",
                "The packet mark of a valid signed datagram, between the BPF program and the rules. Take another one if a \
                 program of yours uses it. No packet keeps it.",
            ),
            setting(
                "silence",
                "a list of names",
                "none",
                "Warnings of `toctoc check` that are not wanted; see WARNINGS.",
            ),
            setting(
                "backend",
                "\"nftables\" or \"iptables\"",
                "nftables",
                "What the policy is made into.",
            ),
        ],
    },
    Part {
        header: "[grant]",
        text: "How much of an address a grant covers, for clients whose address changes between two \
               connections.",
        settings: &[
            setting("prefix4", "8 to 32", "32", "Bits of an IPv4 address."),
            setting("prefix6", "32 to 128", "128", "Bits of an IPv6 address."),
        ],
    },
    Part {
        header: "[firewall]",
        text: "For a host without a firewall of its own: what is no door is dropped, except what stands \
               here. Left out, what is no door stays as it is.",
        settings: &[
            setting(
                "default",
                "\"drop\"",
                "",
                "What comes in and is not listed.",
            ),
            setting(
                "allow",
                "a list of ports, ranges, protocols and sections",
                "none",
                "What everyone reaches. Protocols without ports have names: \"icmp\", \"igmp\", \"ipip\", \"ipv6\", \"gre\", \
                 \"esp\", \"ah\", \"icmpv6\", \"ospf\" and \"vrrp\". A section is for some sources, or some interfaces: { ports = [5432], \
                 from = [\"10.0.0.0/8\"], interfaces = [\"eth1\"] }. The port of a door stands in no `allow`.",
            ),
            setting(
                "ping",
                "true or false",
                "false",
                "Whether echo requests are answered.",
            ),
            setting(
                "forward",
                "\"accept\" or \"drop\"",
                "accept",
                "What happens to packets on their way to other hosts.",
            ),
        ],
    },
    Part {
        header: "[fleet]",
        text: "For several hosts that let in whom one of them lets in (nftables only): `toctoc fleet` tells \
               the others through an engine, Redis or Valkey. Left out, a host has its doors for itself.",
        settings: &[
            setting(
                "url",
                "redis://[USER@]HOST[:PORT][/NUMBER]",
                "",
                "The engine; `rediss://` with TLS.",
            ),
            setting(
                "name",
                "a name",
                "",
                "What the others call this host. Each has its own.",
            ),
            setting(
                "share",
                "a list of doors",
                "none",
                "The doors whose grants the others are told of. Grants of keys with `once` stay here.",
            ),
            setting(
                "accept",
                "a list of doors",
                "none",
                "The doors for which grants of others count here, for as long as this policy gives.",
            ),
            setting(
                "password",
                "a file",
                "none",
                "The engine's password, one line in a file of mode 0600 beside the policy.",
            ),
            setting(
                "secret",
                "a file",
                "none",
                "What the hosts sign with, so that nobody else can speak for them: 64 hexadecimal digits in a \
                 file of mode 0600 beside the policy, alike on all of them. `toctoc fleet --new-secret FILE` \
                 makes it.",
            ),
            setting(
                "authority",
                "a file",
                "those of this host",
                "With `rediss://`: the certificate (PEM), beside the policy, that the engine's comes from.",
            ),
            setting(
                "group",
                "0 to 65535",
                "7",
                "The NFLOG group in which the kernel tells `toctoc fleet` of openings. Another than that \
                 of `log`.",
            ),
        ],
    },
    Part {
        header: "[door.NAME]",
        text: "Ports that are shut to all who have no grant.",
        settings: &[
            setting(
                "ports",
                "a list of ports and ranges, or \"all\"",
                "",
                "The ports of the door. A range is written \"8000-8010\" or \"60000-61000/udp\"; it stays a range in \
                 the kernel. No port belongs to two doors. A service may stand for its port: \"ssh\"; see SERVICES. \
                 \"all\" is every port: who holds a grant for this door comes to everything that [firewall] drops, and to \
                 each other door of this host (nftables only). It needs [firewall]; sequences go by its ports as before.",
            ),
            setting(
                "to",
                "a list of addresses and networks",
                "this host",
                "The hosts behind this one: the door guards what is routed through this host to these ports of theirs \
                 (nftables only). The same port of another host is another door.",
            ),
            setting(
                "knock_at",
                "\"this host\" or \"both\"",
                "this host",
                "Where a door with `to` hears knocks: at the addresses of this host, or also at those in `to`. Knocks at \
                 both count as one sequence.",
            ),
            setting(
                "forward",
                "an address with a port, or one of each family",
                "none",
                "The target: connections of sources that hold a grant are passed on to it, with another destination. It is \
                 \"192.168.1.5:22\", \"[fd00::5]:22\", or an address alone, which keeps the port (nftables only). Without a \
                 target of a family nobody of that family gets in.",
            ),
            setting(
                "masquerade",
                "true or false",
                "false",
                "Whether connections that are passed on seem to come from this host: for a host whose way back does not lead \
                 through this one.",
            ),
            setting("open_for", "a time, 1s to 30d", "", OPEN_FOR),
            setting(
                "extend",
                "a time, 1s to 30d",
                "",
                "Each new connection that a grant lets in sets the time left to this, if it was less. It needs `at_most`, and no key with `once` opens the door (nftables only). Left out, a grant ends in its time.",
            ),
            setting(
                "at_most",
                "a time, 1s to 30d",
                "",
                "A grant ends this long after its opening, however much it is used. After that the source knocks again.",
            ),
            setting(
                "trust",
                "a list of networks and names of hosts",
                "none",
                "These come in without knocking. A name (\"home.example.org\") stands for the addresses that it has: the system is \
                 asked at each apply, and every half minute by the timer of toctoc heal. Where nobody answers, the last \
                 known addresses stay in use, and toctoc status says since when.",
            ),
            setting(
                "silence",
                "a list of names",
                "none",
                "The same for this door.",
            ),
        ],
    },
    Part {
        header: "[key.NAME]",
        text: "What opens doors. A key has one of `sequence`, `scratch`, `token` and `signed`.",
        settings: &[
            setting("opens", "a list of doors", "", "The doors it opens."),
            setting(
                "sequence",
                "a list of ports",
                "",
                "The knocks, in order. Who records them can send them again.",
            ),
            setting(
                "scratch",
                "a list of lists of ports",
                "",
                "Sequences that each open once (nftables only).",
            ),
            setting(
                "token",
                "a file",
                "",
                "The secret of a token key, 64 hexadecimal digits in a file of mode 0600 beside the \
                 policy (nftables only). `toctoc key new` makes it.",
            ),
            setting(
                "signed",
                "a file",
                "",
                "The secret of a signed key, a file as for `token` (nftables only). A small BPF program in the \
                 kernel checks its datagrams. `toctoc key new NAME --signed` makes it.",
            ),
            setting(
                "binding",
                "address, network or none",
                "address",
                "What a datagram must be signed for: \"address\" (its source address), \"network\" (its /24 or /64 is enough), \
                 \"none\" (opens from any address; a thief on the path can use it).",
            ),
            setting(
                "browser",
                "true or false",
                "false",
                "The tokens of this key are letters and digits, which a web page can send too. The \
                 `token_port` must then be one that browsers send to.",
            ),
            setting(
                "ping",
                "true or false",
                "false",
                "The tokens of this key may come in the pattern of a ping, too; the ping is answered as always.",
            ),
            setting("open_for", "a time, 1s to 30d", "", OPEN_FOR),
            setting(
                "once",
                "true or false",
                "false",
                "A grant of this key is used up by its first connection.",
            ),
            setting(
                "expires",
                "a date or a moment",
                "never",
                "The last day (UTC), or the moment, at which it opens.",
            ),
            setting(
                "silence",
                "a list of names",
                "none",
                "The same for this key.",
            ),
        ],
    },
];
