//! Cases of what is ended, here and elsewhere, and what is not.

use super::*;
use toctoc::policy::KeyId;

/// After lost events the agent reads the kernel anew, which may not have been told of a closing yet.
#[test]
fn a_look_at_the_kernel_does_not_undo_a_closing_that_is_still_to_be_done() {
    let place: (Name, IpNet) = (name("ssh"), "192.0.2.7/32".parse().unwrap());
    let closed = News::Closed {
        door: name("ssh"),
        source: place.1,
        age: 0,
    };
    for (done, held) in [(false, 0), (true, 1)] {
        let mut b = ledger("b", "");
        let news = grant("ssh", "192.0.2.7", None, 0, 60_000);
        hear(&mut b, "a", news, NOW).unwrap();
        assert_eq!(until(&mut b, NOW), Some(Some(NOW + 60_000)));
        hear(&mut b, "c", closed.clone(), NOW + 5000).unwrap();
        if done {
            // The twin: what the kernel holds after that is somebody else's, and counts.
            assert_eq!(until(&mut b, NOW + 5000), Some(None));
        }
        b.found_elsewhere(place.clone(), NOW, NOW + 60_000);
        assert_eq!(b.elsewhere(NOW + 5000).count(), held);
        if !done {
            assert_eq!(until(&mut b, NOW + 5000), Some(None));
        }
    }
}

#[test]
fn what_was_closed_does_not_come_back_and_a_new_knock_does() {
    let source: IpAddr = "192.0.2.7".parse().unwrap();
    let place = (name("ssh"), "192.0.2.7/32".parse().unwrap());
    let mut a = ledger("a", "");
    let mut b = ledger("b", "");
    a.opened(&name("ssh"), &name("yves"), source, NOW);
    let opened = told(&mut a, NOW);
    hear(&mut b, "a", opened[0].clone(), NOW).unwrap();
    assert!(until(&mut b, NOW).unwrap().is_some());
    // Closed at the host that has it from elsewhere.
    b.closed_here(&name("ssh"), place.1, NOW + 5000);
    assert_eq!(until(&mut b, NOW + 5000), Some(None));
    let closed = told(&mut b, NOW + 5000);
    assert_eq!(closed.len(), 1);
    hear(&mut a, "b", closed[0].clone(), NOW + 5100).unwrap();
    assert!(a.take_work(NOW + 5100).end.contains(&place));
    a.tell_all();
    assert_eq!(
        told(&mut a, NOW + 6000),
        [],
        "a host does not tell what ended, nor of others"
    );
    // An old word, still under way.
    hear(&mut b, "a", opened[0].clone(), NOW).unwrap();
    assert_eq!(until(&mut b, NOW + 5200), None);
    // A new knock is another grant.
    a.opened(&name("ssh"), &name("yves"), source, NOW + 9000);
    let again = told(&mut a, NOW + 9000);
    hear(&mut b, "a", again[0].clone(), NOW + 9000).unwrap();
    assert_eq!(until(&mut b, NOW + 9000), Some(Some(NOW + 69_000)));
    b.tell_all();
    assert_eq!(
        told(&mut b, NOW + 9000).len(),
        1,
        "the closing is told again"
    );
}

#[test]
fn a_revoked_key_ends_what_it_opened_everywhere() {
    let mut b = ledger("b", "");
    let source: IpAddr = "192.0.2.7".parse().unwrap();
    b.opened(&name("ssh"), &name("yves"), source, NOW);
    hear(
        &mut b,
        "a",
        grant("ssh", "192.0.2.8", Some("yves"), 0, 60_000),
        NOW,
    )
    .unwrap();
    hear(
        &mut b,
        "a",
        grant("ssh", "192.0.2.9", Some("short"), 0, 60_000),
        NOW,
    )
    .unwrap();
    b.take_work(NOW);
    let news = News::Revoked {
        key: name("yves").key_id(),
        age: 0,
    };
    hear(&mut b, "c", news, NOW + 1000).unwrap();
    let work = b.take_work(NOW + 1000);
    assert_eq!(work.end.len(), 1);
    assert_eq!(work.elsewhere.len(), 1);
    assert_eq!(work.elsewhere[0].1, None);
    let old = grant("ssh", "192.0.2.8", Some("yves"), 1500, 58_500);
    hear(&mut b, "a", old, NOW + 1500).unwrap();
    assert_eq!(until(&mut b, NOW + 1500), None);
}

#[test]
fn a_closing_of_a_network_ends_all_in_it() {
    let mut narrow = ledger("b", "");
    for last in [7, 8] {
        let news = grant("ssh", &format!("192.0.2.{last}"), None, 0, 60_000);
        hear(&mut narrow, "a", news, NOW).unwrap();
    }
    hear(
        &mut narrow,
        "a",
        grant("ssh", "192.0.3.7", None, 0, 60_000),
        NOW,
    )
    .unwrap();
    narrow.take_work(NOW);
    let network = News::Closed {
        door: name("ssh"),
        source: "192.0.2.0/24".parse().unwrap(),
        age: 0,
    };
    hear(&mut narrow, "a", network, NOW).unwrap();
    assert_eq!(narrow.take_work(NOW).elsewhere.len(), 2);
    let mut wide = ledger("b", "grant.prefix4 = 24\n");
    hear(
        &mut wide,
        "a",
        grant("ssh", "192.0.2.7", None, 0, 60_000),
        NOW,
    )
    .unwrap();
    assert!(until(&mut wide, NOW).unwrap().is_some());
    let one = News::Closed {
        door: name("ssh"),
        source: "192.0.2.8/32".parse().unwrap(),
        age: 0,
    };
    hear(&mut wide, "a", one, NOW).unwrap();
    assert_eq!(until(&mut wide, NOW), Some(None));
}

/// Somebody who writes to the engine can make up closings until there is no room for more notes.
#[test]
fn a_closing_counts_even_when_there_is_no_room_to_note_it() {
    let mut b = ledger("b", "max_sources = 256\n");
    let closed = |source: &str| News::Closed {
        door: name("ssh"),
        source: source.parse().unwrap(),
        age: 0,
    };
    for last in 0..=255 {
        let made_up = closed(&format!("198.51.100.{last}/32"));
        assert_eq!(hear(&mut b, "x", made_up, NOW), Ok(()), "{last}");
    }
    for source in ["192.0.2.7", "192.0.2.8"] {
        let news = grant("ssh", source, None, 0, 60_000);
        hear(&mut b, "a", news, NOW).unwrap();
    }
    b.take_work(NOW);
    let real = closed("192.0.2.7/32");
    assert_eq!(hear(&mut b, "a", real, NOW + 1), Err(Refusal::Unnoted));
    assert_eq!(until(&mut b, NOW + 1), Some(None));
    assert_eq!(b.elsewhere(NOW + 1).count(), 1, "the other one stays");
    // A grant that an administrator ends here is noted all the same, and told.
    b.closed_here(&name("ssh"), "192.0.2.8/32".parse().unwrap(), NOW + 2);
    assert_eq!(told(&mut b, NOW + 2).len(), 1);
    let old = grant("ssh", "192.0.2.8", None, 10, 60_000);
    hear(&mut b, "a", old, NOW + 3).unwrap();
    assert_eq!(b.elsewhere(NOW + 3).count(), 0);
    // The same with keys.
    let revoked = |key: KeyId| News::Revoked { key, age: 0 };
    for key in 0..256 {
        assert_eq!(hear(&mut b, "x", revoked(KeyId(key)), NOW), Ok(()), "{key}");
    }
    let news = grant("ssh", "192.0.2.9", Some("yves"), 0, 60_000);
    hear(&mut b, "a", news, NOW + 4).unwrap();
    let key = revoked(name("yves").key_id());
    assert_eq!(hear(&mut b, "a", key, NOW + 5), Err(Refusal::Unnoted));
    assert!(b.has_work());
    b.take_work(NOW + 5);
    assert_eq!(b.elsewhere(NOW + 5).count(), 0);
}

/// Each would have to look at all grants: they are looked at once for all of them.
#[test]
fn many_keys_are_revoked_at_once_and_what_came_after_stays() {
    let mut b = ledger("b", "");
    let source: IpAddr = "192.0.2.7".parse().unwrap();
    b.opened(&name("ssh"), &name("yves"), source, NOW);
    for (from, key) in [("192.0.2.8", "yves"), ("192.0.2.9", "short")] {
        let news = grant("ssh", from, Some(key), 0, 10_000);
        hear(&mut b, "a", news, NOW).unwrap();
    }
    b.take_work(NOW);
    let ids = (0..1000).map(KeyId).chain([name("yves").key_id()]);
    for key in ids {
        hear(&mut b, "x", News::Revoked { key, age: 0 }, NOW + 100).unwrap();
    }
    // Said again and older, it changes nothing.
    let older = News::Revoked {
        key: name("yves").key_id(),
        age: 5000,
    };
    hear(&mut b, "x", older, NOW + 100).unwrap();
    let after = grant("ssh", "192.0.2.10", Some("yves"), 0, 10_000);
    hear(&mut b, "a", after, NOW + 200).unwrap();
    let work = b.take_work(NOW + 200);
    assert_eq!(work.end.len(), 1);
    let ended: Vec<bool> = work
        .elsewhere
        .iter()
        .map(|(_, end)| end.is_none())
        .collect();
    assert_eq!(ended, [true, false]);
    assert_eq!(b.elsewhere(NOW + 200).count(), 2);
}

/// An agent that begins anew reads both from the kernel, to the second.
#[test]
fn a_grant_that_is_there_began_after_what_was_closed_here() {
    let source: IpAddr = "192.0.2.7".parse().unwrap();
    for network in ["192.0.2.7/32", "192.0.2.0/24"] {
        let (mut a, mut b) = (ledger("a", ""), ledger("b", ""));
        a.closed_here(&name("ssh"), network.parse().unwrap(), NOW);
        let began = NOW - 900;
        a.closed_before(&name("ssh"), source, began);
        let key = name("yves");
        a.grant(&name("ssh"), Some(&key), source, began, began + 60_000);
        for news in told(&mut a, NOW) {
            hear(&mut b, "a", news, NOW).unwrap();
        }
        assert_eq!(until(&mut b, NOW), Some(Some(NOW + 59_100)), "{network}");
        // A grant that another host has ended later is ended.
        let closed = News::Closed {
            door: name("ssh"),
            source: network.parse().unwrap(),
            age: 0,
        };
        hear(&mut a, "c", closed, NOW + 10).unwrap();
        assert_eq!(a.take_work(NOW + 10).end.len(), 1, "{network}");
    }
}

/// Which of two ends of one thing counts, and whether it is told to the others.
#[test]
fn an_end_here_is_told_until_a_later_one_elsewhere_is_known() {
    let source: IpNet = "192.0.2.7/32".parse().unwrap();
    let told = Item::Closed((name("ssh"), source));
    let closed = |age| News::Closed {
        door: name("ssh"),
        source,
        age,
    };
    let by_knock = |b: &mut Ledger, at: Moment| {
        b.opened(&name("ssh"), &name("yves"), source.addr(), at);
    };
    // Here, then by whom and how much later; whether it is told, and whether who knocked half a second after it is in.
    for (from, later, is_told, is_in) in [
        // One's own words come back, and seem later.
        ("b", 0, true, true),
        ("b", 5000, true, true),
        ("a", -1, true, true),
        ("a", 0, true, true),
        ("a", 700, false, false),
    ] {
        let mut b = ledger("b", "");
        b.closed_here(&name("ssh"), source, NOW);
        by_knock(&mut b, NOW + 500);
        let now = NOW + 10_000;
        let said = hear(&mut b, from, closed(10_000 - later), now);
        assert_eq!(said, Ok(()), "{from} {later}");
        b.to_tell.clear();
        b.tell_all();
        assert_eq!(b.to_tell.contains(&told), is_told, "{from} {later}");
        let work = b.take_work(now);
        assert_eq!(work.end.is_empty(), is_in, "{from} {later}");
    }
    // And an end here at the moment of another one is told.
    let mut b = ledger("b", "");
    assert_eq!(hear(&mut b, "a", closed(0), NOW), Ok(()));
    b.closed_here(&name("ssh"), source, NOW);
    assert!(b.to_tell.contains(&told));
    // After a start anew one's own words count for what others gave, and not for what the kernel has of this host.
    let mut b = ledger("b", "");
    by_knock(&mut b, NOW - 500);
    let given = grant("ssh", "192.0.2.7", Some("yves"), 500, 59_500);
    assert_eq!(hear(&mut b, "a", given.clone(), NOW), Ok(()));
    assert_eq!(until(&mut b, NOW), Some(Some(NOW + 59_500)));
    assert_eq!(hear(&mut b, "b", closed(100), NOW), Ok(()));
    let work = b.take_work(NOW);
    assert!(work.end.is_empty());
    assert_eq!(work.elsewhere, [((name("ssh"), source), None)]);
    assert_eq!(hear(&mut b, "a", given, NOW), Ok(()));
    assert_eq!(until(&mut b, NOW), None);
    // It may be kept nowhere else.
    b.tell_all();
    assert!(b.to_tell.contains(&told));
}

/// The kernel is told once what other hosts end, so that the way back of a trial knows it.
#[test]
fn what_others_end_is_noted_once() {
    let mut b = ledger("b", "");
    let source: IpNet = "192.0.2.0/24".parse().unwrap();
    let closed = |age| News::Closed {
        door: name("ssh"),
        source,
        age,
    };
    assert_eq!(hear(&mut b, "a", closed(500), NOW), Ok(()));
    let place = (name("ssh"), source);
    let work = b.take_work(NOW);
    assert_eq!(work.ended.get(&place), Some(&(NOW - 500)));
    b.give_back(work);
    let work = b.take_work(NOW);
    assert_eq!(work.ended.get(&place), Some(&(NOW - 500)));
    // Told again it seems a little later, or is.
    assert_eq!(hear(&mut b, "a", closed(500), NOW + 20), Ok(()));
    assert!(b.take_work(NOW).is_empty());
    assert_eq!(hear(&mut b, "c", closed(0), NOW + 2000), Ok(()));
    let work = b.take_work(NOW);
    assert_eq!(work.ended.get(&place), Some(&(NOW + 2000)));
    // Ends that the kernel remembers, and ends here, need no other note.
    b.remember_ended(&name("ssh"), "192.0.2.8/32".parse().unwrap(), NOW);
    b.closed_here(&name("ssh"), "192.0.2.9/32".parse().unwrap(), NOW);
    assert!(b.take_work(NOW).ended.is_empty());
    assert_eq!(
        hear(
            &mut b,
            "a",
            News::Revoked {
                key: KeyId(7),
                age: 500
            },
            NOW
        ),
        Ok(())
    );
    assert_eq!(b.take_work(NOW).revoked.get(&KeyId(7)), Some(&(NOW - 500)));
    b.remember_revoked(KeyId(8), NOW);
    b.revoked_here(KeyId(9), NOW);
    assert!(b.take_work(NOW).revoked.is_empty());
}

/// An agent that is started anew knows from the kernel what others have ended, before it hears anything.
#[test]
fn what_is_remembered_refuses_what_began_before_and_nothing_else() {
    let yves = name("yves").key_id();
    for (age, counts) in [(600, false), (500, false), (499, true), (0, true)] {
        let (mut by_place, mut by_key) = (ledger("b", "grant.prefix4 = 24\n"), ledger("b", ""));
        // As grants of this host are: for the network.
        by_place.remember_ended(&name("ssh"), "192.0.2.9/32".parse().unwrap(), NOW - 500);
        by_key.remember_revoked(yves, NOW - 500);
        for b in [&mut by_place, &mut by_key] {
            let told = grant("ssh", "192.0.2.7", Some("yves"), age, 60_000 - age);
            assert_eq!(hear(b, "a", told, NOW), Ok(()));
            assert_eq!(until(b, NOW).is_some(), counts, "{age}");
        }
    }
}
