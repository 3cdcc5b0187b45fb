//! The messages that fuzzing has found worth keeping, and their neighbours.

#[path = "../../tests/support/corpora.rs"]
mod corpora;
#[path = "../../fuzz/fleet.rs"]
mod fleet;

#[test]
fn kept_messages_and_their_neighbours_hold() {
    corpora::try_all(&["../fuzz/corpus/fleet_message"], fleet::fleet_message);
}
