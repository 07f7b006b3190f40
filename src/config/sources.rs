//! Where settings come from, in rising priority: defaults, `--local`, the TOML file, the environment, flags.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;
use super::kind::{Raw, Value};
use super::settings::{PROFILE_SETTINGS, Preset, SETTINGS, Setting, environment_name};
use super::variables::{is_service_link, of_a_profile};
use crate::limits;

/// What a configuration is made of; nothing is read from the process itself, so tests give what they like.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`; it wins over `CHANCERY_CONFIG`.
    pub file: Option<PathBuf>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--local`.
    pub local: bool,
    /// The environment; only names that begin with `CHANCERY_` count.
    pub environment: Vec<(OsString, OsString)>,
}

/// What `--local` sets, below everything that is set explicitly: the ports that test clients listen on, and names
/// below `localhost`.
const LOCAL: [(&str, &str); 3] = [
    ("validation.http01_port", "5002"),
    ("validation.tlsalpn01_port", "5001"),
    ("validation.local_names", "true"),
];

/// The bound on a configuration file and on a secret's file.
const MOST_OCTETS: u64 = 1024 * 1024;

/// Where a value was found; a later variant wins over an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Default,
    Local,
    File { line: usize },
    Environment { variable: String },
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Local => f.write_str("--local"),
            Self::File { line } => write!(f, "line {line} of the file"),
            Self::Environment { variable } => f.write_str(variable),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One setting with what was found for it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) setting: &'static Setting,
    /// `section.key` or `profiles.NAME.key`.
    pub(super) name: String,
    pub(super) raw: Option<Raw>,
    pub(super) source: Source,
    /// Nothing when nothing is set, or when what is set is faulty.
    pub(super) value: Option<Value>,
    pub(super) faulty: bool,
}

/// Everything found, in the table's order.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) entries: Vec<Entry>,
    /// The names of the profiles besides the default one.
    pub(super) profiles: BTreeSet<String>,
    pub(super) faults: Vec<Fault>,
}

impl Gathered {
    /// Asks all sources and reads every value.
    pub(super) fn from(sources: &Sources) -> Self {
        let mut gathered = Self::default();
        for setting in SETTINGS.iter().chain(PROFILE_SETTINGS) {
            gathered.add(setting, setting.name());
        }
        if sources.local {
            for (name, text) in LOCAL {
                gathered.set(name, Raw::Text(text.to_owned()), Source::Local);
            }
        }
        let named = sources.environment.iter().find(|(name, _)| name == "CHANCERY_CONFIG");
        let named = named.map(|(_, path)| PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty());
        if let Some(path) = sources.file.clone().or(named) {
            gathered.take_file(&path);
        }
        gathered.take_environment(&sources.environment);
        if let Some(path) = &sources.data_dir {
            match path.to_str() {
                Some(text) => {
                    gathered.set("data_dir", Raw::Text(text.to_owned()), Source::Flag("--data-dir"))
                }
                None => gathered.faults.push(Fault::NotText("--data-dir".to_owned())),
            }
        }
        gathered.take_preset();
        gathered.read_values();
        gathered
    }

    /// Puts the defaults of `limits.preset` in place of those of the table.
    fn take_preset(&mut self) {
        let chosen = self.entries.iter().find(|entry| entry.name == "limits.preset");
        let chosen = chosen.and_then(|entry| entry.raw.as_ref()).map(Raw::shown);
        let Some(preset) = chosen.as_deref().and_then(limits::Preset::parse) else { return };
        for limit in limits::Limit::ALL {
            let fits = |entry: &&mut Entry| {
                entry.setting.section == "limits" && entry.setting.key == limit.setting()
            };
            let entry = self.entries.iter_mut().find(fits).filter(|entry| entry.source == Source::Default);
            if let Some(entry) = entry {
                entry.raw = Some(Raw::Text(limit.default_capacity(preset).to_string()));
            }
        }
    }

    fn add(&mut self, setting: &'static Setting, name: String) {
        let raw = match setting.preset {
            Preset::Text(text) => Some(Raw::Text(text.to_owned())),
            Preset::Absent | Preset::Derived(_) => None,
        };
        self.entries.push(Entry { setting, name, raw, source: Source::Default, value: None, faulty: false });
    }

    /// Makes room for a profile's settings, or says that the name is not one.
    fn add_profile(&mut self, name: &str) -> bool {
        if self.profiles.contains(name) {
            return true;
        }
        let fits = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits || name.is_empty() || name.len() > 64 || name == "default" {
            self.faults.push(Fault::ProfileName(name.chars().take(80).collect()));
            return false;
        }
        for setting in PROFILE_SETTINGS {
            self.add(setting, format!("profiles.{name}.{}", setting.key));
        }
        self.profiles.insert(name.to_owned())
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    fn set(&mut self, name: &str, raw: Raw, source: Source) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) {
            entry.raw = Some(raw);
            entry.source = source;
        }
    }

    /// Sets a secret from the file that `label` names. `label` without its ending is the secret's own name in the
    /// same source, and must not be set too.
    fn set_secret(&mut self, name: &str, path: &Path, source: Source, label: &str) {
        match read_bounded(path) {
            Ok(text) => self.set(name, Raw::Text(text.trim().to_owned()), source),
            Err(reason) => self.faults.push(Fault::SecretUnreadable {
                name: label.to_owned(),
                path: path.to_owned(),
                reason,
            }),
        }
    }

    fn take_file(&mut self, path: &Path) {
        let text = match read_bounded(path) {
            Ok(text) => text,
            Err(reason) => {
                self.faults.push(Fault::FileUnreadable { path: path.to_owned(), reason });
                return;
            }
        };
        match DeTable::parse(&text) {
            Ok(document) => self.take_table("", document.get_ref(), &text),
            Err(error) => {
                let line = error.span().map_or(1, |span| line_of(&text, span.start));
                let reason = format!("line {line}: {}", error.message());
                self.faults.push(Fault::Syntax { path: path.to_owned(), reason });
            }
        }
    }

    /// Takes a table of the file: `prefix` is empty, `section.`, or `profiles.NAME.`.
    fn take_table(&mut self, prefix: &str, table: &DeTable<'_>, text: &str) {
        for (key, value) in table {
            let line = line_of(text, key.span().start);
            let name = format!("{prefix}{}", key.get_ref());
            match value.get_ref() {
                DeValue::Table(profiles) if name == "profiles" => self.take_profiles(profiles, text),
                DeValue::Table(section) if prefix.is_empty() && is_section(&name) => {
                    self.take_table(&format!("{name}."), section, text);
                }
                _ if self.entry(&name).is_some() => self.take_value(&name, table, key.get_ref(), value, line),
                DeValue::String(file) if self.secret_of(&name, "_file").is_some() => {
                    if let Some(secret) = self.secret_of(&name, "_file") {
                        self.set_secret(&secret, Path::new(file.as_ref()), Source::File { line }, &name);
                    }
                }
                _ if prefix.is_empty() && (is_section(&name) || name == "profiles") => {
                    self.faults.push(Fault::Invalid {
                        given: format!("(line {line} of the file)"),
                        reason: format!("this is a section: write [{name}], and its keys below"),
                        name,
                    });
                }
                _ => self.unknown_key(&name, line),
            }
        }
    }

    fn take_profiles(&mut self, profiles: &DeTable<'_>, text: &str) {
        for (name, value) in profiles {
            match value.get_ref() {
                DeValue::Table(table) if self.add_profile(name.get_ref()) => {
                    self.take_table(&format!("profiles.{}.", name.get_ref()), table, text);
                }
                DeValue::Table(_) => {}
                _ => self
                    .unknown_key(&format!("profiles.{}", name.get_ref()), line_of(text, name.span().start)),
            }
        }
    }

    fn take_value(
        &mut self,
        name: &str,
        table: &DeTable<'_>,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        line: usize,
    ) {
        let secret = self.entry(name).is_some_and(|entry| entry.setting.secret);
        if secret && table.iter().any(|(other, _)| *other.get_ref() == format!("{key}_file")) {
            self.faults.push(Fault::SecretTwice(name.to_owned(), "_file"));
            return;
        }
        match raw(value.get_ref()) {
            Some(raw) => self.set(name, raw, Source::File { line }),
            None => self.faults.push(Fault::Invalid {
                name: name.to_owned(),
                given: format!("(line {line})"),
                reason: "this setting takes text, a whole number, true or false, or a list of these"
                    .to_owned(),
            }),
        }
    }

    fn unknown_key(&mut self, name: &str, line: usize) {
        let sections = SETTINGS.iter().map(|setting| setting.section).chain(["default_profile", "profiles"]);
        let known: BTreeSet<String> =
            self.entries.iter().map(|entry| entry.name.clone()).chain(sections.map(str::to_owned)).collect();
        self.faults.push(Fault::unknown(
            name,
            format!(" (line {line} of the file)"),
            known.iter().map(String::as_str),
        ));
    }

    /// The secret whose file `name` names, `ending` being `_file`.
    fn secret_of(&self, name: &str, ending: &str) -> Option<String> {
        let own = name.strip_suffix(ending)?;
        self.entry(own).filter(|entry| entry.setting.secret).map(|entry| entry.name.clone())
    }

    fn take_environment(&mut self, environment: &[(OsString, OsString)]) {
        let ours = environment.iter().filter_map(|(name, value)| Some((name.to_str()?, value)));
        let mut ours: Vec<(&str, &OsStr)> = ours
            .filter(|(name, value)| name.starts_with("CHANCERY_") && !value.is_empty())
            .map(|(name, value)| (name, value.as_os_str()))
            .collect();
        ours.sort_unstable();
        for (variable, value) in &ours {
            let Some(text) = value.to_str() else {
                self.faults.push(Fault::NotText((*variable).to_owned()));
                continue;
            };
            if *variable == "CHANCERY_CONFIG" || variable.starts_with("CHANCERY_TEST_") {
                continue;
            }
            let source = Source::Environment { variable: (*variable).to_owned() };
            if let Some(name) = self.named_by(variable) {
                self.set(&name, Raw::Text(text.to_owned()), source);
            } else if let Some((own, name)) =
                variable.strip_suffix("_FILE").and_then(|own| Some((own, self.named_by(own)?)))
                && self.entry(&name).is_some_and(|entry| entry.setting.secret)
            {
                if ours.iter().any(|(other, _)| *other == own) {
                    self.faults.push(Fault::SecretTwice(own.to_owned(), "_FILE"));
                } else {
                    self.set_secret(&name, Path::new(text), source, variable);
                }
            } else if !is_service_link(variable, text) {
                let known: Vec<String> = self
                    .entries
                    .iter()
                    .map(|entry| environment_name(&entry.name))
                    .chain(of_a_profile(variable))
                    .collect();
                self.faults.push(Fault::unknown(variable, String::new(), known.iter().map(String::as_str)));
            }
        }
    }

    /// The setting that an environment variable names; a profile that it names comes to be.
    fn named_by(&mut self, variable: &str) -> Option<String> {
        let found = self.entries.iter().find(|entry| environment_name(&entry.name) == variable);
        if let Some(entry) = found {
            return Some(entry.name.clone());
        }
        let rest = variable.strip_prefix("CHANCERY_PROFILES_")?;
        let (profile, key) = PROFILE_SETTINGS.iter().find_map(|setting| {
            let profile = rest.strip_suffix(&setting.key.to_ascii_uppercase())?.strip_suffix('_')?;
            Some((profile.to_ascii_lowercase().replace('_', "-"), setting.key))
        })?;
        // A refused name has its own fault; naming some setting here avoids a second one.
        Some(if self.add_profile(&profile) { format!("profiles.{profile}.{key}") } else { String::new() })
    }

    fn read_values(&mut self) {
        for entry in &mut self.entries {
            let Some(raw) = &entry.raw else { continue };
            match entry.setting.kind.read(raw) {
                Ok(value) => entry.value = Some(value),
                Err(reason) => {
                    entry.faulty = true;
                    let (name, line) = match &entry.source {
                        Source::Environment { variable } => (variable.clone(), String::new()),
                        Source::Flag(flag) => ((*flag).to_owned(), String::new()),
                        Source::File { line } => (entry.name.clone(), format!(" (line {line} of the file)")),
                        Source::Default | Source::Local => (entry.name.clone(), String::new()),
                    };
                    let shown: String = raw.shown().chars().take(200).collect();
                    let given = match entry.setting.secret {
                        true => format!("(not shown){line}"),
                        false => format!("= {shown:?}{line}"),
                    };
                    self.faults.push(Fault::Invalid { name, given, reason });
                    if let Preset::Text(text) = entry.setting.preset {
                        entry.value = entry.setting.kind.read(&Raw::Text(text.to_owned())).ok();
                    }
                }
            }
        }
    }
}

fn is_section(name: &str) -> bool {
    name == "default_profile" || SETTINGS.iter().any(|setting| !name.is_empty() && setting.section == name)
}

/// The text of a TOML value: a scalar, or a list of scalars.
fn raw(value: &DeValue<'_>) -> Option<Raw> {
    fn scalar(value: &DeValue<'_>) -> Option<String> {
        match value {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) => {
                i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
            }
            DeValue::Boolean(flag) => Some(flag.to_string()),
            DeValue::Array(_) | DeValue::Datetime(_) | DeValue::Float(_) | DeValue::Table(_) => None,
        }
    }
    match value {
        DeValue::Array(items) => {
            items.iter().map(|item| scalar(item.get_ref())).collect::<Option<_>>().map(Raw::List)
        }
        one => scalar(one).map(Raw::Text),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn read_bounded(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(MOST_OCTETS + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MOST_OCTETS { Err("it is larger than 1 MiB".to_owned()) } else { Ok(text) }
}
