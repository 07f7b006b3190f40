//! Secrets that a process without replicas makes for itself, and keeps in its data folder.

use std::path::{Path, PathBuf};

use super::{StartError, make_data_dir};
use crate::config::Config;
use crate::service::SealingKey;

/// What the secrets of external account keys are sealed under: the key of the configuration, or for a process without
/// replicas that of `eab.key` in its data folder, made if it is not there. Nothing for a fleet that has none.
pub fn open_sealing(config: &Config) -> Result<Option<SealingKey>, StartError> {
    if let Some(text) = &config.eab_encryption_key {
        return Ok(Some(SealingKey::parse(text.expose()).ok_or("eab.encryption_key is not a key")?));
    }
    if !config.is_alone() {
        return Ok(None);
    }
    make_data_dir(&config.data_dir)?;
    let path = config.data_dir.join("eab.key");
    let failed = |error: std::io::Error| format!("cannot use {}: {error}", path.display());
    if !path.exists() {
        let text = SealingKey::generate().ok_or("there are no random numbers")?;
        write_new_secret(&path, &text).map_err(failed)?;
    }
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(&path).map_err(failed)?);
    let key = SealingKey::parse(text.trim());
    Ok(Some(key.ok_or_else(|| format!("{} does not hold 32 octets in base64", path.display()))?))
}

/// Writes a file that only its owner may read, so that it is there whole or not at all, in place of the one that is there.
pub(super) fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    std::fs::rename(write_beside(path, text)?, path)?;
    std::fs::File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// Writes a file that only its owner may read, so that it is there whole or not at all, unless it is there already: of
/// two processes that start at once, both then use that of one.
fn write_new_secret(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = write_beside(path, text)?;
    let linked = std::fs::hard_link(&temporary, path);
    std::fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => std::fs::File::open(path.parent().unwrap_or(path))?.sync_all(),
    }
}

/// Writes a file that only its owner may read under a name that is this process's alone.
fn write_beside(path: &Path, text: &str) -> std::io::Result<PathBuf> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    writeln!(file, "{}", text.trim_end())?;
    file.sync_all()?;
    Ok(temporary)
}
