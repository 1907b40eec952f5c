//! The platform's keys: one signs tokens, one seals plugins' native code, one tenants' secrets. Files
//! of mode 0600.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use stoker_api::SigningKey;
use stoker_infra::SealedVault;
use stoker_plugins::ArtifactKey;

/// The platform's keys.
pub(crate) struct Keys {
    dir: PathBuf,
}

impl Keys {
    /// The keys under a data dir.
    pub(crate) fn under(data_dir: &Path) -> Self {
        Self {
            dir: data_dir.join("keys"),
        }
    }

    /// Makes those that aren't there. Keys that are there are never replaced.
    pub(crate) fn ensure(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.dir)
            .with_context(|| format!("can't make {}", self.dir.display()))?;
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))?;
        if !self.signing_path().exists() {
            SigningKey::generate()?.save(&self.signing_path())?;
        }
        for path in [self.sealing_path(), self.vault_path()] {
            if !path.exists() {
                let key: [u8; 32] = seed()?;
                let mut file = fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path)?;
                file.write_all(&key)?;
                file.sync_all()?;
            }
        }
        Ok(())
    }

    /// The key that signs tokens.
    pub(crate) fn signing(&self) -> anyhow::Result<SigningKey> {
        let path = self.signing_path();
        let hint = "`stoker admin init` makes it";
        SigningKey::load(&path).with_context(|| format!("can't read {}; {hint}", path.display()))
    }

    /// The key that seals plugins' native code.
    pub(crate) fn sealing(&self) -> anyhow::Result<ArtifactKey> {
        Ok(ArtifactKey::new(read_key(&self.sealing_path())?))
    }

    /// What tenants' secrets are sealed under. Workers have no use for it: don't give it to them.
    pub(crate) fn vault(&self) -> anyhow::Result<SealedVault> {
        Ok(SealedVault::new(&read_key(&self.vault_path())?)?)
    }

    /// Where the key that signs tokens lies.
    pub(crate) fn signing_path(&self) -> PathBuf {
        self.dir.join("signing.pem")
    }

    fn vault_path(&self) -> PathBuf {
        self.dir.join("vault.key")
    }

    fn sealing_path(&self) -> PathBuf {
        self.dir.join("plugins.key")
    }
}

fn read_key(path: &Path) -> anyhow::Result<[u8; 32]> {
    let hint = "`stoker admin init` makes it";
    let bytes = fs::read(path).with_context(|| format!("can't read {}; {hint}", path.display()))?;
    let length = bytes.len();
    let key = <[u8; 32]>::try_from(bytes).ok();
    key.with_context(|| format!("{} has {length} bytes, not 32", path.display()))
}

/// 32 random bytes of the operating system.
fn seed() -> anyhow::Result<[u8; 32]> {
    use std::io::Read as _;
    let mut key = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}
