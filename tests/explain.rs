//! `toctoc explain`: what it says of a trace, and of a line that is none.

use std::io::Write;
use std::process::{Command, Output, Stdio};

const POLICY: &str = r#"
ignore = [80]

[door.ssh]
ports = [22]
trust = ["198.51.100.7"]

[key.yves]
opens    = ["ssh"]
sequence = [443, 2387, 920, 18357, 50]

[key.anna]
opens    = ["ssh"]
sequence = [443, 2387, 1111]
open_for = "5m"

[key.guest]
opens    = ["ssh"]
sequence = ["53/udp", 9000]
once     = true

[key.past]
opens    = ["ssh"]
sequence = [8101, 9102]
expires  = 2020-01-01
"#;

fn explain(trace: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    std::fs::write(&path, POLICY).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_toctoc"))
        .arg("explain")
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(trace.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn each_knock_is_told_with_its_reason() {
    let trace = "\
# seconds source port
0     192.0.2.7 443
0.2   192.0.2.7 443
0.4   192.0.2.7 80
0.5   192.0.2.7 2387
1     192.0.2.7 443
1.5   192.0.2.7 7
2     192.0.2.7 443
14.3  192.0.2.7 2387
15    192.0.2.7 443
15.1  192.0.2.7 2387
15.2  192.0.2.7 22
16    192.0.2.7 443
16.1  192.0.2.7 2387
16.2  192.0.2.7 920
16.3  192.0.2.7 18357
16.4  192.0.2.7 50
16.5  192.0.2.7 50
17    192.0.2.7 22
18    192.0.2.8 22
18    198.51.100.7 22
20    2001:db8::7 53/udp
20.1  2001:db8::7 9000
21    2001:db8::7 22
22    2001:db8::7 22
30    192.0.2.8 8101
31    192.0.2.8 9102
40    192.0.2.9 443
40.1  192.0.2.9 2387
40.2  192.0.2.9 1111
50    192.0.2.10 1111
60    192.0.2.7 443
75    192.0.2.7 443
";
    let output = explain(trace);
    assert_eq!(output.status.code(), Some(0));
    let expected = "    0.000  192.0.2.7        443/tcp    first knock of yves and anna
    0.200  192.0.2.7        443/tcp    echo: the same knock again, does not count
    0.400  192.0.2.7        80/tcp     no knock: an ignored port
    0.500  192.0.2.7        2387/tcp   second knock of yves and anna
    1.000  192.0.2.7        443/tcp    wrong, starts again: first knock of yves and anna
    1.500  192.0.2.7        7/tcp      wrong: not the second knock of yves and anna; progress is lost
    2.000  192.0.2.7        443/tcp    first knock of yves and anna
   14.300  192.0.2.7        2387/tcp   too late: 12.3 s after the last knock, at most 10s is allowed; begins no sequence
   15.000  192.0.2.7        443/tcp    first knock of yves and anna
   15.100  192.0.2.7        2387/tcp   second knock of yves and anna
   15.200  192.0.2.7        22/tcp     refused: ssh is closed to this source, and progress is lost
   16.000  192.0.2.7        443/tcp    first knock of yves and anna
   16.100  192.0.2.7        2387/tcp   second knock of yves and anna
   16.200  192.0.2.7        920/tcp    third knock of yves
   16.300  192.0.2.7        18357/tcp  fourth knock of yves
   16.400  192.0.2.7        50/tcp     last knock of yves: opens ssh for 1m
   16.500  192.0.2.7        50/tcp     echo: the same knock again, does not count
   17.000  192.0.2.7        22/tcp     passes: holds a grant for ssh (59.4 s left)
   18.000  192.0.2.8        22/tcp     refused: ssh is closed to this source
   18.000  198.51.100.7     22/tcp     passes: ssh trusts this source
   20.000  2001:db8::7      53/udp     first knock of guest
   20.100  2001:db8::7      9000/tcp   last knock of guest: opens ssh for 1m, for one connection
   21.000  2001:db8::7      22/tcp     passes: holds a grant for ssh (59.1 s left), which is used up now
   22.000  2001:db8::7      22/tcp     refused: ssh is closed to this source
   30.000  192.0.2.8        8101/tcp   first knock of past
   31.000  192.0.2.8        9102/tcp   last knock of past, which has expired: opens nothing
   40.000  192.0.2.9        443/tcp    first knock of yves and anna
   40.100  192.0.2.9        2387/tcp   second knock of yves and anna
   40.200  192.0.2.9        1111/tcp   last knock of anna: opens ssh for 5m
   50.000  192.0.2.10       1111/tcp   begins no sequence
   60.000  192.0.2.7        443/tcp    first knock of yves and anna
   75.000  192.0.2.7        443/tcp    too late: 15 s after the last knock, at most 10s is allowed; first knock of yves and anna
grants
  192.0.2.7 to ssh for 1.4 s more, opened by yves
  192.0.2.9 to ssh for 265.2 s more, opened by anna
";
    snapbox::assert_data_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn no_trace_no_grants() {
    let output = explain("\n# nothing\n");
    assert_eq!(output.stdout, b"no grants\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_line_that_is_none_is_shown_with_a_caret() {
    for (line, said) in [
        ("1 192.0.2.7", "a line has three words"),
        ("1 192.0.2.7 443 5", "a line has three words"),
        (
            "one 192.0.2.7 443",
            "`one` is not a time in seconds\n  one 192.0.2.7 443\n  ^",
        ),
        ("-1 192.0.2.7 443", "`-1` is not a time"),
        ("nan 192.0.2.7 443", "`nan` is not a time"),
        ("1e300 192.0.2.7 443", "`1e300` is not a time"),
        ("1e12 192.0.2.7 443", "`1e12` is not a time"),
        (
            "1 example.org 443",
            "`example.org` is not an IP address\n  1 example.org 443\n    ^",
        ),
        ("1 192.0.2.7 0", "no port is 0"),
        (
            "1 192.0.2.7 70000/udp",
            "no port is 70000: ports go from 1 to 65535\n  1 192.0.2.7 70000/udp\n              ^",
        ),
        (
            "1 192.0.2.7 443\n0 192.0.2.7 2387",
            "line 2: time goes back here",
        ),
        (&"9".repeat(2000), "too long"),
        ("1 192.0.2.7 44\u{1b}3", "is not a port"),
    ] {
        let output = explain(line);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {stderr}");
        assert!(stderr.contains(said), "{line}: {stderr}");
    }
}

/// A capture counts its seconds from 1970; a dated key is judged by them.
#[test]
fn a_capture_has_its_own_time() {
    // Two weeks before the end of 2019, and one after it.
    let output = explain("1576500000.5 192.0.2.7 8101\n1576500001 192.0.2.7 9102\n");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("last knock of past: opens ssh"), "{said}");
    let output = explain("1578500000.5 192.0.2.7 8101\n1578500001 192.0.2.7 9102\n");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("which has expired"), "{said}");
}
