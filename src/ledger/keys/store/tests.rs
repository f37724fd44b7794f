//! Tests of the store: versions, owners, import and export.

use secrecy::ExposeSecret;

use super::*;
use crate::{
    base::hex,
    ledger::keys::{Actor, Deed, KeyDeed, KeyOrder, Via, hash},
};

fn deed(second: i64) -> Deed {
    let by = Actor { name: "ops".into(), via: Via::Api };
    Deed::new(Timestamp::from_second(second).unwrap(), by, Some("a test".into()))
}

fn order() -> KeyOrder {
    let expires = Some(Timestamp::from_second(9_000_000_000).unwrap());
    KeyOrder { team: "search".into(), name: Some("ci".into()), expires, explain: true }
}

#[test]
fn stored_keys_outlive_the_process_and_the_file_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!KeyStore::is_in(folder.path()));
    let store = KeyStore::open(folder.path()).unwrap();
    assert!(store.export().unwrap().keys.is_empty());
    let made = store.create(&order(), &deed(1)).unwrap();
    assert!(matches!(KeyStore::open(folder.path()), Err(KeyStoreError::InUse(_))));
    let before = store.export().unwrap();
    drop(store);
    assert!(KeyStore::is_in(folder.path()));
    let again = KeyStore::open(folder.path()).unwrap().export().unwrap();
    assert_eq!(again.revision, before.revision);
    let row = &again.keys[0];
    assert_eq!((again.keys.len(), row.key.hash), (1, hash(made.secret.expose_secret())));
    assert_eq!((row.key.name.as_deref(), row.key.expires, row.key.explain), (Some("ci"), order().expires, true));
    assert_eq!(row.created, Some(deed(1).at));
}

#[test]
fn the_file_never_holds_a_secret_and_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyStore::open(folder.path()).unwrap();
    let made = store.create(&order(), &deed(1)).unwrap();
    let (rotated, _) = store.rotate(&made.key.id, None, std::time::Duration::ZERO, &deed(2)).unwrap();
    drop(store);
    let path = folder.path().join(FILE);
    let bytes = std::fs::read(&path).unwrap();
    let holds = |text: &str| memchr::memmem::find(&bytes, text.as_bytes()).is_some();
    assert!(holds(&hex::digits(&rotated.key.hash)), "the row is not where it is looked for");
    for made in [made, rotated] {
        assert!(!holds(&made.secret.expose_secret()[13..]));
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// A file as the first version wrote it.
fn write_version_1(folder: &Path, rows: &[(&str, &str)]) {
    let database = Database::create(folder.join("keys.redb")).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(TableDefinition::<&str, &[u8]>::new("keys.v1")).unwrap();
        for (id, row) in rows {
            table.insert(id, row.as_bytes()).unwrap();
        }
    }
    write.commit().unwrap();
}

#[test]
fn rows_of_version_1_are_moved_and_work() {
    let folder = tempfile::tempdir().unwrap();
    let digits = hex::digits(&hash("tpk_old"));
    let row = format!(
        r#"{{"id":"k7Qm2x9Z","team":"search","hash":"{digits}","name":"ci","expires":1900000000,"explain":true}}"#
    );
    let bare =
        format!(r#"{{"id":"bareBARE","team":"ads","hash":"{digits}","name":null,"expires":null,"explain":false}}"#);
    write_version_1(folder.path(), &[("k7Qm2x9Z", &row), ("bareBARE", &bare)]);
    let store = KeyStore::open(folder.path()).unwrap();
    let all = store.export().unwrap();
    assert_eq!((all.revision, all.keys.len()), (1, 2));
    let old = all.keys.iter().find(|row| row.key.id.as_str() == "k7Qm2x9Z").unwrap();
    assert_eq!((old.key.hash, old.key.name.as_deref(), old.key.explain), (hash("tpk_old"), Some("ci"), true));
    assert_eq!(old.key.expires.unwrap().as_second(), 1_900_000_000);
    assert_eq!((old.created, old.revoked, old.former.len()), (None, None, 0));
    assert!(store.acts(None).unwrap().is_empty() && store.uses().unwrap().is_empty());
    store.rotate("k7Qm2x9Z", None, std::time::Duration::from_secs(60), &deed(1_800_000_000)).unwrap();
    store.revoke("bareBARE", None, &deed(1_800_000_000)).unwrap();
    drop(store);
    let again = KeyStore::open(folder.path()).unwrap().export().unwrap();
    assert_eq!((again.revision, again.keys.len()), (3, 2));
    assert!(again.keys.iter().any(|row| row.revoked.is_some()) && again.keys.iter().any(|row| row.former.len() == 1));
}

#[test]
fn a_damaged_row_is_named_and_nothing_is_moved() {
    let folder = tempfile::tempdir().unwrap();
    write_version_1(folder.path(), &[("damaged", "{\"id\":")]);
    for _ in 0..2 {
        let failed = KeyStore::open(folder.path()).map(|_| ()).unwrap_err();
        assert!(matches!(&failed, KeyStoreError::Damaged(id) if id == "damaged"), "{failed}");
    }
}

#[test]
fn two_stores_that_tell_each_other_everything_agree() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [a, b] = folders.each_ref().map(|folder| KeyStore::open(folder.path()).unwrap());
    let [kept, leaked] = [1, 2].map(|second| a.create(&order(), &deed(second)).unwrap().key);
    assert_eq!(b.import(&a.export().unwrap().keys, &a.acts(None).unwrap()).unwrap().len(), 2);
    // Each acts without knowing of the other: a revocation here, a later rotation there.
    a.revoke(&leaked.id, None, &deed(10)).unwrap();
    b.rotate(&leaked.id, None, std::time::Duration::ZERO, &deed(20)).unwrap();
    b.rotate(&kept.id, None, std::time::Duration::ZERO, &deed(20)).unwrap();
    let (from_a, from_b) = (a.export().unwrap(), b.export().unwrap());
    assert_eq!(a.import(&from_b.keys, &b.acts(None).unwrap()).unwrap(), std::slice::from_ref(&kept.id));
    assert_eq!(b.import(&from_a.keys, &a.acts(None).unwrap()).unwrap(), std::slice::from_ref(&leaked.id));
    let rows =
        |store: &KeyStore| -> Vec<Vec<u8>> { store.export().unwrap().keys.iter().map(StoredKey::to_bytes).collect() };
    assert_eq!(rows(&a), rows(&b));
    assert_eq!(a.acts(None).unwrap().len(), 5);
    assert_eq!(b.acts(None).unwrap().len(), 5);
    let revision = a.export().unwrap().revision;
    assert!(a.import(&b.export().unwrap().keys, &b.acts(None).unwrap()).unwrap().is_empty());
    assert_eq!(a.export().unwrap().revision, revision, "nothing new is no change");
}

#[test]
fn a_last_use_only_moves_forward_and_changes_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyStore::open(folder.path()).unwrap();
    let id = store.create(&order(), &deed(1)).unwrap().key.id;
    let revision = store.export().unwrap().revision;
    for second in [50, 40] {
        store.note_uses(&[(id.clone(), Timestamp::from_second(second).unwrap())]).unwrap();
    }
    assert_eq!(store.uses().unwrap()[&id].as_second(), 50);
    assert_eq!(store.export().unwrap().revision, revision);
}

#[test]
fn acts_come_back_as_they_were_booked() {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyStore::open(folder.path()).unwrap();
    let id = store.create(&order(), &deed(1)).unwrap().key.id;
    let other = store.create(&order(), &deed(1)).unwrap().key.id;
    let (_, until) = store.rotate(&id, None, std::time::Duration::from_secs(7), &deed(2)).unwrap();
    store.revoke(&id, None, &deed(3)).unwrap();
    let acts = store.acts(Some(&id)).unwrap();
    let whats: Vec<KeyDeed> = acts.iter().map(|act| act.what).collect();
    assert_eq!(whats, [KeyDeed::Created, KeyDeed::Rotated { until }, KeyDeed::Revoked]);
    assert_eq!(until.as_second(), 9);
    assert!(acts.iter().zip(1..).all(|(act, second)| act.deed == deed(second) && act.team.as_str() == "search"));
    assert_eq!(store.acts(Some(&other)).unwrap().len(), 1);
    assert_eq!(store.acts(None).unwrap().len(), 4);
}
