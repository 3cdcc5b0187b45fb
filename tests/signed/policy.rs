//! Combinations that are refused, with the reason and the way out.

use toctoc::policy::{Host, Secrets, read_for};
use toctoc::single_use::Secret;

fn refusal(top: &str, bottom: &str) -> Option<String> {
    let text = format!(
        "{top}\ntoken_port = 20123\n[door.ssh]\nports = [22]\n[key.phone]\nopens = [\"ssh\"]\nsigned = \"phone.secret\"\n{bottom}"
    );
    let secret = |_: &str| Ok(Secret::new(std::array::from_fn(|i| i as u8).into()));
    let host = Host {
        secrets: Secrets(Some(&secret)),
        ..Host::default()
    };
    let refused = read_for("policy", &text, &host).err();
    refused.map(|report| report.to_string())
}

#[test]
fn what_signed_keys_cannot_be_with_is_refused() {
    assert_eq!(refusal("", ""), None);
    assert_eq!(refusal("signed_mark = 0x1234", "binding = \"none\""), None);
    let said = refusal("backend = \"iptables\"", "").unwrap();
    assert!(
        said.contains("the iptables backend has no signed keys"),
        "{said}"
    );
    let fleet = "[fleet]\nurl = \"redis://192.0.2.10\"\nname = \"alpha\"\nshare = [\"ssh\"]\n";
    assert_eq!(refusal("", fleet), None);
    for bad in ["browser = true", "ping = true", "token = \"other\""] {
        assert!(refusal("", bad).is_some(), "{bad}");
    }
}
