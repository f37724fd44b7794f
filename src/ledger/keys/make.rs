//! What a key is made of: `tpk_`, a public id, 196 random bits, and a checksum.

use std::sync::Arc;

use rand::{TryRngCore, rngs::OsRng};
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use super::{KeyOrder, KeyStoreError, NewKey};
use crate::base::{names::KeyId, tenants::Key};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_LENGTH: usize = 8;
/// 33 digits to the base 62 carry 196 random bits.
const SECRET_LENGTH: usize = 33;
const CHECKSUM_LENGTH: usize = 6;

/// The SHA-256 of a key as clients send it.
pub fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The public id inside a key of our own making, `None` for anything else. The checksum must fit.
pub fn id_of(key: &str) -> Option<&str> {
    let (id, secret) = key.strip_prefix("tpk_")?.split_at_checked(ID_LENGTH)?;
    let (body, sum) = key.split_at_checked(key.len().checked_sub(CHECKSUM_LENGTH)?)?;
    let whole = secret.strip_prefix('_').is_some_and(|secret| secret.len() == SECRET_LENGTH + CHECKSUM_LENGTH);
    (whole && checksum(body) == sum).then_some(id)
}

/// Makes a key: `tpk_` id `_` secret checksum. The checksum lets scanners of leaked secrets tell it from noise.
///
/// # Errors
/// [`KeyStoreError::Random`] when the system gives no random bytes.
pub fn make(order: &KeyOrder) -> Result<NewKey, KeyStoreError> {
    remake(&KeyId::from(random_text(ID_LENGTH)?), order)
}

/// Makes another secret for the key `id`.
///
/// # Errors
/// [`KeyStoreError::Random`] when the system gives no random bytes.
pub fn remake(id: &KeyId, order: &KeyOrder) -> Result<NewKey, KeyStoreError> {
    let body = format!("tpk_{id}_{}", random_text(SECRET_LENGTH)?);
    let text = format!("{body}{}", checksum(&body));
    let key = Key {
        id: id.clone(),
        team: order.team.clone(),
        hash: hash(&text),
        name: order.name.as_deref().map(Arc::from),
        expires: order.expires,
        explain: order.explain,
    };
    Ok(NewKey { key, secret: SecretString::from(text) })
}

fn random_text(length: usize) -> Result<String, KeyStoreError> {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0; 64];
        OsRng.try_fill_bytes(&mut bytes).map_err(|error| KeyStoreError::Random(error.to_string()))?;
        // 248 is the largest multiple of 62 below 256: beyond it the first letters would come up more often.
        let even = bytes.iter().filter(|&&byte| byte < 248).map(|byte| ALPHABET[usize::from(byte % 62)]);
        text.extend(even.map(char::from).take(length - text.len()));
    }
    Ok(text)
}

fn checksum(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    digest.iter().take(CHECKSUM_LENGTH).map(|byte| char::from(ALPHABET[usize::from(byte % 62)])).collect()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_key_carries_its_id_and_a_checksum_that_a_slip_breaks() {
        let order = KeyOrder { team: "search".into(), name: None, expires: None, explain: false };
        let made = make(&order).unwrap();
        let text = made.secret.expose_secret();
        assert_eq!(text.len(), 4 + ID_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH);
        assert_eq!(id_of(text), Some(made.key.id.as_str()));
        let again = remake(&made.key.id, &order).unwrap();
        assert_eq!(id_of(again.secret.expose_secret()), Some(made.key.id.as_str()));
        assert_ne!(again.key.hash, made.key.hash);
        let slipped = text.replacen(&text[20..21], if &text[20..21] == "a" { "b" } else { "a" }, 1);
        for other in [slipped.as_str(), &text[..text.len() - 1], "tpk_", "tpk_ö", "sk-from-elsewhere", ""] {
            assert_eq!(id_of(other), None, "{other}");
        }
    }
}
