//! Tests of the acts: what each leaves behind, and what is refused.

use tempfile::TempDir;

use super::*;
use crate::ledger::keys::{Actor, KeyRing, Standing, Via, hash};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn deed(second: i64) -> Deed {
    Deed::new(at(second), Actor { name: "alice".into(), via: Via::CommandLine }, Some("a test".into()))
}

fn order() -> KeyOrder {
    KeyOrder { team: "search".into(), name: Some("ci".into()), expires: Some(at(1000)), explain: true }
}

fn in_file(secret: &str) -> Key {
    Key { id: "ci".into(), team: "ads".into(), hash: hash(secret), name: None, expires: None, explain: false }
}

fn store() -> (TempDir, KeyStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyStore::open(folder.path()).unwrap();
    (folder, store)
}

/// What a secret is worth by what the store says.
fn standing(store: &KeyStore, key: &NewKey, now: i64) -> Option<Standing> {
    use secrecy::ExposeSecret;
    let ring = KeyRing::default();
    ring.replace(&store.export().unwrap().keys, &[]);
    ring.find(key.secret.expose_secret()).map(|held| held.standing(at(now)))
}

#[test]
fn a_rotation_gives_another_secret_and_leaves_the_rest() {
    let (_folder, store) = store();
    let first = store.create(&order(), &deed(1)).unwrap();
    let id = first.key.id.clone();
    let (second, until) = store.rotate(&id, None, Duration::from_secs(60), &deed(10)).unwrap();
    assert_eq!(until, at(70));
    let Key { id: same, team, name, expires, explain, hash } = second.key.clone();
    assert_eq!((same, team.as_str(), name.as_deref()), (id.clone(), "search", Some("ci")));
    assert_eq!((expires, explain), (Some(at(1000)), true));
    assert_ne!(hash, first.key.hash);
    assert_eq!(standing(&store, &first, 69), Some(Standing::Valid));
    assert_eq!(standing(&store, &first, 70), Some(Standing::Replaced));
    assert_eq!(standing(&store, &second, 70), Some(Standing::Valid));
    // Without an overlap everything before ends at once, also what was still in one.
    let (third, until) = store.rotate(&id, None, Duration::ZERO, &deed(20)).unwrap();
    assert_eq!(until, at(20));
    assert_eq!(standing(&store, &first, 20), Some(Standing::Replaced));
    assert_eq!(standing(&store, &second, 20), Some(Standing::Replaced));
    assert_eq!(standing(&store, &third, 20), Some(Standing::Valid));
    assert_eq!(store.export().unwrap().keys.len(), 1);
}

#[test]
fn a_longer_overlap_never_gives_back_what_ended() {
    let (_folder, store) = store();
    let first = store.create(&order(), &deed(1)).unwrap();
    store.rotate(&first.key.id, None, Duration::ZERO, &deed(10)).unwrap();
    store.rotate(&first.key.id, None, Duration::from_secs(600), &deed(20)).unwrap();
    assert_eq!(standing(&store, &first, 21), Some(Standing::Replaced));
}

#[test]
fn a_revocation_ends_every_secret_for_good() {
    let (_folder, store) = store();
    let first = store.create(&order(), &deed(1)).unwrap();
    let id = first.key.id.clone();
    let (second, _) = store.rotate(&id, None, Duration::from_secs(600), &deed(10)).unwrap();
    store.revoke(&id, None, &deed(20)).unwrap();
    assert_eq!(standing(&store, &first, 0), Some(Standing::Revoked));
    assert_eq!(standing(&store, &second, 0), Some(Standing::Revoked));
    let again = store.revoke(&id, None, &deed(30)).unwrap_err();
    assert!(matches!(&again, KeyError::Revoked { at: when, .. } if *when == at(20)), "{again}");
    assert!(matches!(store.rotate(&id, None, Duration::ZERO, &deed(30)), Err(KeyError::Revoked { .. })));
    assert_eq!(store.acts(None).unwrap().len(), 3, "what is refused is not booked");
}

#[test]
fn a_key_of_a_policy_file_is_revoked_without_an_edit_and_its_next_secret_too() {
    let (_folder, store) = store();
    assert!(matches!(store.rotate("ci", Some(&in_file("a")), Duration::ZERO, &deed(1)), Err(KeyError::OfFile(_))));
    store.revoke("ci", Some(&in_file("a")), &deed(2)).unwrap();
    let again = store.revoke("ci", Some(&in_file("a")), &deed(3));
    assert!(matches!(again, Err(KeyError::Revoked { .. })), "{again:?}");
    assert!(matches!(store.revoke("ci", None, &deed(3)), Err(KeyError::Revoked { .. })));
    assert!(matches!(store.rotate("ci", Some(&in_file("a")), Duration::ZERO, &deed(3)), Err(KeyError::OfFile(_))));
    let ring = KeyRing::default();
    let standing = |store: &KeyStore, secret: &str| {
        ring.replace(&store.export().unwrap().keys, &["a", "b"].map(|secret| Arc::new(in_file(secret))));
        ring.find(secret).map(|held| held.standing(at(5)))
    };
    assert_eq!(standing(&store, "a"), Some(Standing::Revoked));
    assert_eq!(standing(&store, "b"), Some(Standing::Valid), "a row with another secret is another matter");
    store.revoke("ci", Some(&in_file("b")), &deed(4)).unwrap();
    assert_eq!(standing(&store, "a"), Some(Standing::Revoked));
    assert_eq!(standing(&store, "b"), Some(Standing::Revoked));
}

#[test]
fn what_is_unknown_expired_or_unfit_is_refused() {
    let (_folder, store) = store();
    let id = store.create(&order(), &deed(1)).unwrap().key.id;
    assert!(matches!(store.revoke("nobody", None, &deed(1)), Err(KeyError::Unknown(_))));
    assert!(matches!(store.rotate("nobody", None, Duration::ZERO, &deed(1)), Err(KeyError::Unknown(_))));
    assert!(matches!(store.rotate(&id, None, Duration::ZERO, &deed(1000)), Err(KeyError::Expired { .. })));
    for why in [None, Some(" ".to_owned()), Some("x".repeat(1001)), Some("two\nlines".to_owned())] {
        let refused = store.revoke(&id, None, &Deed { why: why.clone(), ..deed(2) });
        assert!(matches!(refused, Err(KeyError::Unfit { field: "why", .. })), "{why:?}");
    }
    let named = KeyOrder { name: Some("\u{1b}[31mred".into()), ..order() };
    assert!(matches!(store.create(&named, &deed(2)), Err(KeyError::Unfit { field: "name", .. })));
    assert!(store.create(&order(), &Deed { why: None, ..deed(2) }).is_ok());
}

#[test]
fn the_clock_may_go_back_and_the_newest_act_is_still_the_newest() {
    let (_folder, store) = store();
    let id = store.create(&order(), &deed(100)).unwrap().key.id;
    store.rotate(&id, None, Duration::ZERO, &deed(50)).unwrap();
    let row = store.export().unwrap().keys.remove(0);
    assert!(row.changed > at(100), "{}", row.changed);
}

#[test]
fn former_secrets_are_bounded_and_none_is_cut_short() {
    let (_folder, store) = store();
    let id = store.create(&order(), &deed(1)).unwrap().key.id;
    for second in 2..12 {
        store.rotate(&id, None, Duration::ZERO, &deed(second)).unwrap();
    }
    assert_eq!(store.export().unwrap().keys[0].former.len(), MAX_FORMER);
    for second in 20..28 {
        store.rotate(&id, None, Duration::from_secs(600), &deed(second)).unwrap();
    }
    let refused = store.rotate(&id, None, Duration::from_secs(600), &deed(30));
    assert!(matches!(refused, Err(KeyError::TooManySecrets(_))), "{refused:?}");
    store.rotate(&id, None, Duration::from_secs(600), &deed(620)).unwrap();
}
