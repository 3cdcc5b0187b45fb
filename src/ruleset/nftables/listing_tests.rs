use super::*;

#[test]
fn warnings_before_the_listing_are_passed_over() {
    let text = "warning: stmt ops map have no json callback\n\
                {\"nftables\": [{\"counter\": {\"family\": \"inet\", \"table\": \"toctoc\", \
                \"name\": \"opened-yves\", \"packets\": 3}}]}";
    let listing = Listing::parse(text).unwrap();
    assert_eq!(listing.counters.get("opened-yves"), Some(&3));
}

#[test]
fn what_is_no_listing_is_refused() {
    for text in ["", "{", "[]", "{\"nftables\": 5}", "warning: only"] {
        let error = Listing::parse(text).unwrap_err().to_string();
        assert!(error.contains("no listing: "), "{text}: {error}");
    }
}

/// Found by fuzzing: the name went into a script as it was.
#[test]
fn a_name_that_would_be_a_command_is_refused() {
    for name in ["x; flush ruleset", "admit}", "a b", "", "\n"] {
        let chain = serde_json::json!({"family": "inet", "table": "toctoc", "name": name});
        let text = serde_json::json!({"nftables": [{"chain": chain}]}).to_string();
        let error = Listing::parse(&text).unwrap_err().to_string();
        assert!(error.contains("nft delete table inet toctoc"), "{error}");
    }
}

/// Elements in every form that has been seen, and in forms that make no sense: what cannot be
/// read is no grant.
#[test]
fn elements_are_read_tolerantly() {
    let element = |json: &str| {
        let text = format!(
            r#"{{"nftables": [{{"set": {{"family": "inet", "table": "toctoc",
            "name": "grants4", "type": ["ipv4_addr", "classid"], "elem": [{json}]}}}}]}}"#
        );
        Listing::parse(&text).unwrap().grants()
    };
    let whole = r#"{"elem": {"val": {"concat": ["192.0.2.7", "8f3a:11c2"]}, "timeout": 60, "expires": 41}}"#;
    let read = element(whole);
    assert_eq!(read.len(), 1);
    assert_eq!(
        (read[0].door, read[0].expires_in.as_secs()),
        (DoorId(0x8f3a_11c2), 41)
    );
    let numeric = r#"{"elem": {"val": {"concat": ["192.0.2.7", 2402947522]}, "expires": 41}}"#;
    assert_eq!(element(numeric)[0].door, DoorId(0x8f3a_11c2));
    for senseless in [
        "5",
        "null",
        "[]",
        r#""192.0.2.7""#,
        r#"{"concat": ["192.0.2.7"]}"#,
        r#"{"concat": ["example", "8f3a:11c2"]}"#,
        r#"{"concat": ["192.0.2.7", "8f3a-11c2"]}"#,
        r#"{"concat": ["192.0.2.7", "8f3a:11c2", "1:1"]}"#,
        r#"{"elem": 5}"#,
        r#"{"elem": {"val": {"concat": 5}}}"#,
    ] {
        assert_eq!(element(senseless), [], "{senseless}");
    }
    // Another table's set of the same name is not ours.
    let foreign = r#"{"nftables": [{"set": {"family": "ip", "table": "toctoc", "name": "grants4",
        "elem": [{"concat": ["192.0.2.7", "8f3a:11c2"]}]}}]}"#;
    assert_eq!(Listing::parse(foreign).unwrap().grants(), []);
}

/// A fleet's sets: grants of other hosts, and notes of what was ended, with how long ago.
#[test]
fn what_a_fleet_keeps_is_read() {
    let text = r#"{"nftables": [
        {"set": {"family": "inet", "table": "toctoc", "name": "elsewhere6-p64", "elem": [
            {"elem": {"val": {"concat": ["2001:db8::", "2:2"]}, "timeout": 60, "expires": 41}}]}},
        {"set": {"family": "inet", "table": "toctoc", "name": "closed4", "elem": [
            {"elem": {"val": {"concat": ["192.0.2.7", "2:2"]}, "timeout": 86400, "expires": 86390}},
            {"elem": {"val": {"concat": ["192.0.2.8", "2:2"]}, "timeout": 86400, "expires": 86399}},
            "odd"]}},
        {"set": {"family": "inet", "table": "toctoc", "name": "revoked", "elem": [
            {"elem": {"val": "9:1", "timeout": 86400, "expires": 86395}}]}},
        {"set": {"family": "inet", "table": "toctoc", "name": "terms", "elem": ["12:34"]}}]}"#;
    let listing = Listing::parse(text).unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(listing.terms(), Some(0x12_0034));
    assert!(listing.grants().is_empty());
    let elsewhere = listing.elsewhere();
    assert_eq!(elsewhere.len(), 1);
    assert_eq!(elsewhere[0].source.to_string(), "2001:db8::/64");
    assert_eq!(elsewhere[0].expires_in, seconds(41));
    let closed: Vec<Duration> = listing.closed().iter().map(|(_, ago)| *ago).collect();
    assert_eq!(closed, [seconds(9), seconds(0)]);
    assert_eq!(listing.revoked(), [(KeyId(0x9_0001), seconds(4))]);
}

#[test]
fn a_grant_is_attributed_to_the_opening_with_its_time() {
    let text = r#"{"nftables": [
        {"set": {"family": "inet", "table": "toctoc", "name": "grants4-p24", "elem": [
            {"elem": {"val": {"concat": ["192.0.2.0", "2:2"]}, "expires": 41}}]}},
        {"set": {"family": "inet", "table": "toctoc", "name": "opened4", "elem": [
            {"elem": {"val": {"concat": ["192.0.2.7", "2:2", "9:1"]}, "expires": 300}},
            {"elem": {"val": {"concat": ["192.0.2.8", "2:2", "9:2"]}, "expires": 41}},
            {"elem": {"val": {"concat": ["192.0.3.8", "2:2", "9:3"]}, "expires": 41}},
            {"elem": {"val": {"concat": ["192.0.2.8", "2:3", "9:4"]}, "expires": 41}}]}}]}"#;
    let grants = Listing::parse(text).unwrap().grants();
    assert_eq!(grants.len(), 1);
    assert_eq!(grants[0].source.to_string(), "192.0.2.0/24");
    assert_eq!(grants[0].opened_by.unwrap().key, KeyId(0x9_0002));
}
