//! Grants of one host count at the others, and nothing else does.

use super::bottle::{Fleet, until};

#[test]
fn who_knocks_at_one_host_is_let_in_at_all() {
    let fleet = Fleet::of(2);
    for place in [0, 1] {
        fleet.listen(place, 22);
        fleet.listen(place, 443);
        assert!(!fleet.is_open(place, "192.0.2.101", 22));
    }
    fleet.knock(0, "192.0.2.101");
    fleet.until_open(0, "192.0.2.101", 22);
    fleet.until_open(1, "192.0.2.101", 22);
    // A door that nobody shares, and somebody else.
    assert!(fleet.is_open(0, "192.0.2.101", 443));
    assert!(!fleet.is_open(1, "192.0.2.101", 443));
    assert!(!fleet.is_open(1, "192.0.2.102", 22));
    let (own, other) = (fleet.grants(0, "ssh"), fleet.grants(1, "ssh"));
    assert_eq!((own.len(), other.len()), (1, 1));
    assert!(other[0].1 <= own[0].1 + 1.0, "{own:?} {other:?}");
    until("status says where and by whom", || {
        let status = fleet.status(1);
        let grant = &status["doors"][0]["grants"][0];
        grant["host"] == "a" && grant["key"] == "yves"
    });
    assert_eq!(fleet.status(1)["drift"], serde_json::json!([]));
}
