//! How the settings are shown: the effective ones for `chancery check`, and the reference for the documentation.

use std::fmt::Write as _;

use super::kind::{Kind, Raw, alternatives, write_duration};
use super::settings::{PROFILE_SETTINGS, Preset, SETTINGS, Setting, environment_name};
use super::sources::Entry;

/// The effective settings as a TOML document, each with its source; secrets are masked.
pub(super) fn effective(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let line = match (&entry.raw, entry.setting.preset) {
            (Some(Raw::Text(_)), _) if entry.setting.secret => {
                format!("{} = \"(not shown)\"", entry.name)
            }
            (Some(raw), _) => format!("{} = {}", entry.name, toml_text(entry.setting.kind, raw)),
            (None, Preset::Derived(words)) => format!("# {}: {words}", entry.name),
            (None, _) => format!("# {}: none", entry.name),
        };
        let _ = writeln!(text, "{line:<70} # {}", entry.source);
    }
    text
}

fn toml_text(kind: Kind, raw: &Raw) -> String {
    if kind.is_list() {
        let items: Vec<String> = raw.items().into_iter().map(quoted).collect();
        return format!("[{}]", items.join(", "));
    }
    let text = raw.shown();
    if kind.is_bare() { text } else { quoted(&text) }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

const PREFACE: &str = "\
# Configuration

<!-- Made by `cargo run -- check --reference > docs/configuration.md`; a test compares. -->

Chancery runs without any configuration: `chancery serve` keeps a SQLite database and its own certificate authority in
`./chancery-data`. Everything below is optional.

A setting is taken from, the later winning:

1. its default;
2. `--local` (of `serve`), which sets `validation.http01_port = 5002`, `validation.tlsalpn01_port = 5001` and
   `validation.local_names = true`, for trying out without privileges;
3. the TOML file that `--config` or `CHANCERY_CONFIG` names;
4. its environment variable; an empty one counts as not set;
5. its flag (`--data-dir`).

The environment variable of `[section] key` is `CHANCERY_SECTION_KEY`. An unknown name is refused, in the file as in the
environment. Lists are TOML arrays, or separated by commas. Time spans are a whole number and one of the units `ms`, `s`,
`m`, `h`, `d`. Paths are relative to the folder that the server is started in. `chancery check` shows what is in force and
where each value comes from.

A secret can be kept in a file: `CHANCERY_DATABASE_URL_FILE=/run/secrets/database`, or `url_file` in the TOML section.
";

const PROFILES: &str = "\
## `[profiles.NAME]`

Further profiles, which clients choose by the order's `profile` or by the directory `/profiles/NAME/directory`. They take the
keys of `[default_profile]`, with the same defaults (a profile inherits nothing from the default profile). A name has 1 to 64
characters of `a-z`, `0-9` and `-`; in the environment `[profiles.short-lived] validity` is
`CHANCERY_PROFILES_SHORT_LIVED_VALIDITY`.

A `trusted` profile is refused at start unless it has `external_account_required = true`, so that only accounts to which you
handed a key (`chancery eab create --profile NAME`) may use it, or says `accept_anyone = true`. `allowed_names` is no substitute:
it says which names, not who gets them.

What is turned off here stops what is under way. Names, challenge types, `authorization` and `external_account_required` are asked
again when an order is finalized, and when another replica takes its issuance over: what they forbid by then is refused with
the reason (403 or 400), and the order stays ready until it expires. An order whose profile is gone ends as `invalid`; it never gets the
content of another profile. Authorizations by a challenge type that is not offered any more are not used again. So put a new
profile on all replicas before a client uses it.

## Example

```toml
external_url = \"https://acme.example.com\"
listen = \"0.0.0.0:14000\"

[database]
url_file = \"/run/secrets/database\"

[redis]
url_file = \"/run/secrets/redis\"

[tls]
mode = \"off\"

[http]
# The balancer: who it says it asks for is believed.
trusted_proxies = [\"10.0.0.10/32\"]

[ca]
cert = \"/etc/chancery/issuing.pem\"
key = \"/etc/chancery/issuing.key\"
chain = [\"/etc/chancery/root.pem\"]

[eab]
encryption_key_file = \"/run/secrets/eab\"

# Accounts need a key: chancery eab create --profile inside
[profiles.inside]
authorization = \"trusted\"
external_account_required = true
allowed_names = [\".inside.example.com\"]
validity = \"7d\"
```
";

/// docs/configuration.md, made from the table.
pub fn reference_markdown() -> String {
    let mut text = String::from(PREFACE);
    let mut sections: Vec<&str> = Vec::new();
    for setting in SETTINGS.iter().chain(PROFILE_SETTINGS) {
        if !sections.contains(&setting.section) {
            sections.push(setting.section);
        }
    }
    for section in sections {
        let title = if section.is_empty() { "At the top".to_owned() } else { format!("`[{section}]`") };
        let _ = write!(text, "\n## {title}\n\n| key | default | meaning |\n|---|---|---|\n");
        for setting in SETTINGS.iter().chain(PROFILE_SETTINGS).filter(|setting| setting.section == section) {
            let _ = writeln!(text, "{}", reference_row(setting));
        }
    }
    text + "\n" + PROFILES
}

fn reference_row(setting: &Setting) -> String {
    let default = match setting.preset {
        Preset::Absent => "none".to_owned(),
        Preset::Derived(words) => words.to_owned(),
        Preset::Text(text) => format!("`{text}`"),
    };
    let takes = match setting.kind {
        Kind::Boolean => " `true` or `false`.".to_owned(),
        Kind::Count(least, most) => format!(" {least} to {most}."),
        Kind::Duration(least, most) => format!(" {} to {}.", write_duration(least), write_duration(most)),
        Kind::Word(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            format!(" One of {}.", alternatives(&words))
        }
        kind if kind.is_list() => " A list.".to_owned(),
        _ => String::new(),
    };
    let secret = if setting.secret { " Secret: also by file." } else { "" };
    let variable = environment_name(&setting.name());
    format!("| `{}`<br>`{variable}` | {default} | {}{takes}{secret} |", setting.key, setting.meaning)
}
