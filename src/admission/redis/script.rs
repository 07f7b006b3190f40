//! Lua scripts that are part of this program (`lua/`).

use redis::Cmd;

/// A script with its name in Redis's script cache.
pub(super) struct Lua {
    source: &'static str,
    hash: String,
}

impl Lua {
    pub(super) fn new(source: &'static str) -> Self {
        Self { source, hash: redis::Script::new(source).get_hash().to_owned() }
    }

    /// Calls the script by its name; Redis answers `NOSCRIPT` if it does not know it.
    pub(super) fn by_name(&self, keys: &[&str], arguments: &[&[u8]]) -> Cmd {
        call("EVALSHA", &self.hash, keys, arguments)
    }

    /// Calls the script by its text; Redis knows it by name from then on.
    pub(super) fn by_text(&self, keys: &[&str], arguments: &[&[u8]]) -> Cmd {
        call("EVAL", self.source, keys, arguments)
    }
}

fn call(verb: &str, script: &str, keys: &[&str], arguments: &[&[u8]]) -> Cmd {
    let mut command = redis::cmd(verb);
    command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
    command
}
