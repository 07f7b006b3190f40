//! Processes whose wall clock is wrong, by libfaketime. Their steady clock is as it should be.

use std::path::{Path, PathBuf};

use super::run::folder;

/// Debian's libfaketime.
pub fn library() -> String {
    let found = std::fs::read_dir("/usr/lib").expect("a system").flatten().find_map(|architecture| {
        let library = architecture.path().join("faketime/libfaketimeMT.so.1");
        library.exists().then(|| library.display().to_string())
    });
    found.expect("Debian's faketime is installed")
}

/// The wall clock of a process, which can be set while it runs.
pub struct WallClock {
    file: PathBuf,
}

impl WallClock {
    /// A clock that is right.
    pub fn right() -> Self {
        let clock = Self { file: folder("wall-clock").join("offset") };
        clock.set("+0");
        clock
    }

    /// Sets it off by this much, such as `+1h`, from now on.
    pub fn set(&self, offset: &str) {
        // In one step: the process may read at any time.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{offset}\n")).expect("written");
        std::fs::rename(&new, &self.file).expect("renamed");
    }

    /// What a process has in its environment that goes by this clock.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        let file: &Path = &self.file;
        [
            ("LD_PRELOAD", library()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}
