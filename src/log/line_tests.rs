use super::*;
use crate::ruleset::log_prefix::names;

const REST: &str = "IN=eth0 OUT= MAC=02:00:00:00:00:01:02:00:00:00:00:02:08:00 SRC=192.0.2.7 DST=192.0.2.1 \
                    LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=0 DF PROTO=TCP SPT=40001 DPT=50 WINDOW=64240 RES=0x00 \
                    SYN URGP=0 ";

const PREFIX: &str = "toctoc: opened door=ssh key=yves ";

fn start() -> Timestamp {
    "2026-07-06T12:00:00Z".parse().unwrap()
}

/// The same message in the kernel's memory, in the journal, and in files of syslog.
fn everywhere(message: &str) -> [Option<Claim>; 4] {
    [
        (
            format!("6,339,120500000,-;{message}\n"),
            Format::Ring(start()),
        ),
        (
            format!("2026-07-06T14:02:00+0200 host kernel: {message}"),
            Format::Journal,
        ),
        (
            format!("Jul  6 14:02:00 host kernel: [  120.500000] {message}"),
            Format::Syslog,
        ),
        (
            format!("2026-07-06T14:02:00.123456+02:00 host kernel: {message}"),
            Format::Syslog,
        ),
    ]
    .map(|(line, format)| in_line(&line, format))
}

#[test]
fn packets_are_read_as_the_kernel_writes_them() {
    for (packet, source) in [
        (REST.to_string(), "192.0.2.7"),
        (REST.trim_end().to_string(), "192.0.2.7"),
        (REST.replace("MAC=02:00:00:00:00:01:02:00:00:00:00:02:08:00", "MAC="), "192.0.2.7"),
        (REST.replace("OUT= ", "OUT= PHYSIN=eth1 "), "192.0.2.7"),
        (REST.replace("DF ", ""), "192.0.2.7"),
        (REST.replace("URGP=0 ", "URGP=0 MARK=0x1 "), "192.0.2.7"),
        ("IN=wlan0.5 OUT= MAC= SRC=192.0.2.7 DST=192.0.2.1 LEN=44 TOS=0x00 PREC=0x00 TTL=64 ID=7 PROTO=UDP \
          SPT=40001 DPT=50 LEN=24 "
            .to_string(), "192.0.2.7"),
        ("IN=eth0 OUT= MAC=02:00 SRC=2001:0db8:0000:0000:0000:0000:0000:0007 \
          DST=2001:0db8:0000:0000:0000:0000:0000:0001 LEN=80 TC=0 HOPLIMIT=64 FLOWLBL=395483 PROTO=TCP SPT=40001 \
          DPT=50 WINDOW=64800 RES=0x00 SYN URGP=0 "
            .to_string(), "2001:db8::7"),
        ("IN=sit1 OUT= MAC= TUNNEL=192.0.2.9->192.0.2.1 SRC=2001:db8::7 DST=2001:db8::1 LEN=80 TC=0 HOPLIMIT=64 \
          FLOWLBL=0 PROTO=TCP SPT=1 DPT=2 "
            .to_string(), "2001:db8::7"),
    ] {
        for claim in everywhere(&format!("{PREFIX}{packet}")) {
            let claim = claim.unwrap_or_else(|| panic!("{packet}"));
            assert_eq!(claim.source, source.parse::<IpAddr>().unwrap(), "{packet}");
            assert_eq!(claim.prefix, PREFIX);
        }
    }
}

/// Text that a user can get into a message of the kernel, wherever it stands.
#[test]
fn a_line_that_is_not_wholly_of_our_form_is_not_believed() {
    for message in [
        // A process that crashes, named so; and its file.
        "toctoc: ssh y [5]: segfault at 0 ip 400 sp 7ff error 6 in x SRC=203.0.113.9 z[8d,400000+1000]".to_string(),
        format!("toctoc: s y IN=[5]: segfault at 0 ip 400 sp 7ff error 6 in {REST}"),
        format!("{PREFIX}[5]: segfault at 0 ip 400 sp 7ff error 6 in {REST}"),
        format!("x[5]: segfault at 0 ip 400 sp 7ff error 6 in {PREFIX}{REST}"),
        format!("{PREFIX}{REST}[8d,400000+1000] likely on CPU 0 (core 0, socket 0)"),
        format!("{PREFIX}{REST}\\x0ax"),
        // Parts that are missing, in another place, twice, or of another kind.
        format!("{PREFIX}IN=eth0 SRC=203.0.113.9"),
        format!("{PREFIX}IN=eth0 OUT= SRC=203.0.113.9 DST=192.0.2.1 LEN=60"),
        format!("{PREFIX}IN=eth0 OUT= MAC= SRC=203.0.113.9"),
        format!("{PREFIX}IN=eth0 OUT= MAC= SRC=203.0.113.9 DST=192.0.2.1"),
        format!("{PREFIX}SRC=203.0.113.9 {REST}"),
        format!("{PREFIX}{REST}SRC=203.0.113.9 "),
        format!("{PREFIX}{REST}IN=eth0 "),
        PREFIX.to_string() + &REST.replace("IN=eth0", "IN="),
        PREFIX.to_string() + &REST.replace("IN=eth0", "IN=[5]:"),
        PREFIX.to_string() + &REST.replace("IN=eth0 ", "IN=eth0 IN=eth1 "),
        PREFIX.to_string() + &REST.replace("OUT= ", "OUT=eth1 "),
        PREFIX.to_string() + &REST.replace("MAC=02:", "MAC=x:"),
        PREFIX.to_string() + &REST.replace("SRC=192.0.2.7", "SRC=2001:db8::7"),
        PREFIX.to_string() + &REST.replace("SRC=192.0.2.7", "SRC=192.0.2.700"),
        PREFIX.to_string() + &REST.replace("SRC=192.0.2.7", "SRC=host.example"),
        PREFIX.to_string() + &REST.replace("LEN=60", "LEN=x"),
        PREFIX.to_string() + &REST.replace(' ', "\t"),
        PREFIX.to_string() + &REST.replace(' ', "  "),
        PREFIX.to_string(),
        REST.replace("IN=", "in="),
        String::new(),
    ] {
        for claim in everywhere(&message) {
            let believed = claim.filter(|claim| names(&claim.prefix).is_some());
            assert_eq!(believed, None, "{message}");
        }
    }
}

/// The prefix is judged by the rules of the policy. It is all that stands before the packet.
#[test]
fn a_prefix_is_all_that_stands_before_the_packet() {
    for before in [
        "x",
        "toctoc: ssh yves ",
        "audit: toctoc: opened door=ssh key=yves ",
        "",
    ] {
        for claim in everywhere(&format!("{before}{REST}")) {
            assert_eq!(claim.unwrap().prefix, before);
        }
    }
}

#[test]
fn only_the_kernel_is_believed() {
    let message = format!("{PREFIX}{REST}");
    for told in [
        format!("2026-07-06T14:02:00+02:00 host kernel: {message}"),
        format!("2026-07-06T14:02:00+0200 host kernel: [  12.345678] {message}"),
    ] {
        assert!(in_line(&told, Format::Journal).is_some(), "{told}");
        assert!(in_line(&told, Format::Syslog).is_some(), "{told}");
    }
    for told in [
        format!("2026-07-06T14:02:00.123456+02:00 host kernel: {message}"),
        format!("Jul  6 14:02:00 host kernel: {message}"),
        format!("Jul 16 14:02:00 host kernel: [60227.291578] {message}"),
    ] {
        assert!(in_line(&told, Format::Syslog).is_some(), "{told}");
        assert_eq!(in_line(&told, Format::Journal), None, "{told}");
    }
    for other in [
        format!("Jul  6 14:02:00 host sshd[7]: Invalid user kernel: {message}"),
        format!("Jul  6 14:02:00 host kernel[7]: {message}"),
        format!("2026-07-06T14:02:00+02:00 host sshd[7]: kernel: {message}"),
        format!("2026-07-06T14:02:00+02:00 host  kernel: {message}"),
        // As journalctl goes on with a message of more than one line.
        format!("                                     {message}"),
        format!(" 2026-07-06T14:02:00+02:00 host kernel: {message}"),
        format!("  Jul  6 14:02:00 host kernel: {message}"),
        format!("\t2026-07-06T14:02:00+02:00 host kernel: {message}"),
        format!("kernel: {message}"),
        message.clone(),
    ] {
        assert_eq!(in_line(&other, Format::Syslog), None, "{other}");
        assert_eq!(in_line(&other, Format::Journal), None, "{other}");
    }
}

#[test]
fn records_of_the_kernel_have_times_and_no_record_of_others_is_one() {
    let line = format!("6,339,120500000,-;{PREFIX}{REST}\n SUBSYSTEM=x\n");
    let claim = in_line(&line, Format::Ring(start())).unwrap();
    assert_eq!(claim.at.unwrap().to_string(), "2026-07-06T12:02:00.5Z");
    assert_eq!(number(&line), Some(339));
    // Lines written to /dev/kmsg are of another facility; ours are of one level.
    for head in ["14", "4", "0", "30", "x", "06", ""] {
        let other = line.replacen('6', head, 1);
        assert_eq!(in_line(&other, Format::Ring(start())), None, "{head}");
    }
    for odd in ["", ";", "6,1;toctoc: ", "6,1,x,-;toctoc: ssh a IN="] {
        assert_eq!(in_line(odd, Format::Ring(start())), None, "{odd}");
    }
}

#[test]
fn times_of_syslog_are_read() {
    let at = |time: &str| {
        let line = format!("{time} host kernel: {PREFIX}{REST}");
        let claim = in_line(&line, Format::Syslog).unwrap();
        claim.at.map(|at| at.to_string())
    };
    let wanted = Some("2026-07-06T12:02:00Z".to_string());
    assert_eq!(at("2026-07-06T14:02:00+0200"), wanted);
    assert_eq!(at("2026-07-06T14:02:00+02:00"), wanted);
    assert_eq!(at("Jul  6 14:02:00"), None);
}
