//! The [`Vault`]: AES-256-GCM under a key that isn't in the store, bound to tenant and name.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use stoker_domain::TenantId;
use stoker_domain::port::{Vault, VaultError};

/// Version of the sealed form, which comes first in it.
const FORM: &str = "1:";

/// The [`Vault`] of one platform.
pub struct SealedVault {
    key: LessSafeKey,
}

impl SealedVault {
    /// A vault that `key` opens.
    ///
    /// # Errors
    /// [`VaultError`] never, but for a broken library.
    pub fn new(key: &[u8; 32]) -> Result<Self, VaultError> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| VaultError("sealed"))?;
        Ok(Self {
            key: LessSafeKey::new(key),
        })
    }
}

fn bound_to(tenant: &TenantId, name: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("{tenant}\n{name}").into_bytes())
}

impl Vault for SealedVault {
    fn seal(&self, tenant: &TenantId, name: &str, secret: &[u8]) -> Result<String, VaultError> {
        let failed = |_| VaultError("sealed");
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(failed)?;
        let mut bytes = secret.to_vec();
        let with = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(with, bound_to(tenant, name), &mut bytes)
            .map_err(failed)?;
        let hex: String = (nonce.iter().chain(&bytes))
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(format!("{FORM}{hex}"))
    }

    fn open(&self, tenant: &TenantId, name: &str, sealed: &str) -> Result<Vec<u8>, VaultError> {
        let unreadable = VaultError("read: it was sealed in another form");
        let bytes = sealed.strip_prefix(FORM).and_then(bytes_of);
        let mut bytes = bytes.ok_or_else(|| unreadable.clone())?;
        if bytes.len() < NONCE_LEN {
            return Err(unreadable);
        }
        let mut sealed = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).map_err(|_| unreadable)?;
        let opened = self
            .key
            .open_in_place(nonce, bound_to(tenant, name), &mut sealed);
        opened
            .map(|secret| secret.to_vec())
            .map_err(|_| VaultError("opened: the platform's key is another, or the secret is"))
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        return None;
    }
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_opened_by_its_key_for_its_tenant_and_name_alone() {
        let vault = SealedVault::new(&[7; 32]).unwrap();
        let (acme, zeta): (TenantId, TenantId) = ("acme".parse().unwrap(), "zeta".parse().unwrap());
        let sealed = vault.seal(&acme, "hook", b"s3cret").unwrap();
        assert!(!sealed.contains("s3cret"));
        assert_ne!(vault.seal(&acme, "hook", b"s3cret").unwrap(), sealed);
        assert_eq!(vault.open(&acme, "hook", &sealed).unwrap(), b"s3cret");
        assert!(vault.open(&zeta, "hook", &sealed).is_err());
        assert!(vault.open(&acme, "other", &sealed).is_err());
        let other = SealedVault::new(&[8; 32]).unwrap();
        assert!(other.open(&acme, "hook", &sealed).is_err());
        let mut changed = sealed.clone();
        changed.pop();
        for wrong in [
            "",
            "1:",
            "2:00",
            "1:zz",
            "1:é0",
            changed.as_str(),
            &sealed[..20],
        ] {
            assert!(vault.open(&acme, "hook", wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            vault.open(&acme, "empty", &vault.seal(&acme, "empty", b"").unwrap()),
            Ok(vec![])
        );
    }
}
