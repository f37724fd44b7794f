//! Two rows of one key from two gateways: which of them counts.

use jiff::Timestamp;

use super::{Former, StoredKey};

impl StoredKey {
    /// What is known of a key when one store says `self` and another `other`: the same whichever comes first, however
    /// often, so that gateways agree in the end. A revocation stands above everything, also above a rotation that was
    /// made later by somebody who did not know of it; otherwise the newest act counts.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let (mut counts, yields) = if self.rank() >= other.rank() { (self, other) } else { (other, self) };
        if counts.revoked.is_some() && yields.revoked.is_some() {
            // Two gateways with different policy files revoked different secrets: both are dead.
            let missing: Vec<Former> = yields
                .hashes()
                .filter(|hash| counts.hashes().all(|known| known != *hash))
                .map(|hash| Former { until: yields.former_until(hash), hash })
                .collect();
            counts.former.extend(missing);
            counts.former.sort_unstable();
        }
        counts
    }

    /// Only of what a merge leaves as it is, so that merged rows rank like the rows they came from.
    fn rank(&self) -> (bool, Timestamp, Option<Timestamp>, [u8; 32], Option<Vec<u8>>) {
        let all = self.revoked.is_none().then(|| self.to_bytes());
        (self.revoked.is_some(), self.changed, self.revoked, self.key.hash, all)
    }

    fn former_until(&self, hash: [u8; 32]) -> Timestamp {
        let former = self.former.iter().find(|former| former.hash == hash);
        former.map(|former| former.until).or(self.revoked).unwrap_or(self.changed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::base::tenants::Key;

    fn row() -> impl Strategy<Value = StoredKey> {
        let former = prop::collection::vec((0..4_i64, 0..6_u8), 0..3);
        (0..6_u8, 0..4_i64, prop::option::of(0..4_i64), former).prop_map(|(hash, changed, revoked, former)| {
            let instant = |second| Timestamp::from_second(second).unwrap();
            let former = former.into_iter();
            StoredKey {
                key: Key {
                    id: "k".into(),
                    team: "search".into(),
                    hash: [hash; 32],
                    name: None,
                    expires: None,
                    explain: false,
                },
                created: None,
                former: former.map(|(until, hash)| Former { until: instant(until), hash: [hash; 32] }).collect(),
                revoked: revoked.map(instant),
                of_file: false,
                changed: instant(changed),
            }
        })
    }

    /// What a client can tell of a row.
    fn seen(row: &StoredKey) -> (Option<Timestamp>, Timestamp, [u8; 32], BTreeSet<[u8; 32]>) {
        (row.revoked, row.changed, row.key.hash, row.hashes().collect())
    }

    proptest! {
        #[test]
        fn gateways_agree_whatever_comes_first_and_however_often(a in row(), b in row(), c in row()) {
            let (a, b, c) = (|| a.clone(), || b.clone(), || c.clone());
            prop_assert_eq!(seen(&a().merged(b())), seen(&b().merged(a())));
            prop_assert_eq!(seen(&a().merged(a())), seen(&a()));
            prop_assert_eq!(seen(&a().merged(b()).merged(b())), seen(&a().merged(b())));
            prop_assert_eq!(seen(&a().merged(b()).merged(c())), seen(&a().merged(b().merged(c()))));
        }

        #[test]
        fn a_revocation_is_never_undone(a in row(), b in row()) {
            let merged = a.clone().merged(b.clone());
            prop_assert_eq!(merged.revoked.is_some(), a.revoked.is_some() || b.revoked.is_some());
            for row in [a, b].iter().filter(|row| row.revoked.is_some()) {
                prop_assert!(row.hashes().all(|hash| merged.hashes().any(|dead| dead == hash)));
            }
        }
    }
}
