//! What can be wrong with a configuration, said so that the operator knows what to change.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Everything that is wrong with the configuration, at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Never empty.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.as_slice() {
            [one] => write!(f, "the configuration cannot be used: {one}"),
            many => {
                write!(f, "the configuration cannot be used, for {} reasons:", many.len())?;
                many.iter().try_for_each(|fault| write!(f, "\n  - {fault}"))
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// Settings that are fine by themselves and wrong together.
    #[error("{0}")]
    Contradiction(String),
    /// The configuration file cannot be read.
    #[error("the configuration file {path} cannot be read: {reason}", path = path.display())]
    FileUnreadable {
        /// The file as it was named.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A value that is not what the setting takes.
    #[error("{name} {given}: {reason}")]
    Invalid {
        /// Its name, in the spelling of its source.
        name: String,
        /// The value and the line it is on, or that it is not shown.
        given: String,
        /// What it should be.
        reason: String,
    },
    /// An environment variable whose value is not UTF-8.
    #[error("{0} is not UTF-8 text")]
    NotText(String),
    /// A profile's name that is not one.
    #[error(
        "the profile name {0:?} is not usable: a name has 1 to 64 characters of a-z, 0-9 and -, \
         and \"default\" is set under default_profile"
    )]
    ProfileName(String),
    /// A secret is given both as it is and by a file.
    #[error("{0} and {0}{1} are both set: keep one of them")]
    SecretTwice(String, &'static str),
    /// The file that holds a secret cannot be read.
    #[error("{name} names the file {path}, which cannot be read: {reason}", path = path.display())]
    SecretUnreadable {
        /// The setting that names the file.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is not TOML.
    #[error("the configuration file {path} is not TOML: {reason}", path = path.display())]
    Syntax {
        /// The file as it was named.
        path: PathBuf,
        /// What the parser says, with the line.
        reason: String,
    },
    /// A name that no setting has.
    #[error("unknown setting {name}{place}; {advice}")]
    Unknown {
        /// The name as it was written.
        name: String,
        /// The line in the file, or nothing.
        place: String,
        /// The nearest known name, or where to find them all.
        advice: String,
    },
}

impl Fault {
    /// A name that no setting has, with the nearest of `known` where one is near enough to be meant.
    pub(super) fn unknown<'a>(name: &str, place: String, known: impl Iterator<Item = &'a str>) -> Self {
        let advice = match nearest(name, known) {
            Some(near) => format!("did you mean {near}?"),
            None => "`chancery check --reference` lists all settings".to_owned(),
        };
        Self::Unknown { name: name.to_owned(), place, advice }
    }
}

/// The candidate with the least edit distance, if that is small against the name's length.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // What all names begin with says nothing about how near they are.
    let bare = |text: &str| text.strip_prefix("CHANCERY_").unwrap_or(text).to_ascii_lowercase();
    let wanted = bare(name);
    let (distance, near) = known.map(|one| (edit_distance(&wanted, &bare(one)), one)).min()?;
    (distance <= (wanted.len() / 3).max(1)).then_some(near)
}

/// Levenshtein's distance, in characters.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edit_distance_is_levenshteins() {
        for (left, right, distance) in
            [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("same", "same", 0)]
        {
            assert_eq!(edit_distance(left, right), distance, "{left} {right}");
            assert_eq!(edit_distance(right, left), distance, "{right} {left}");
        }
    }

    #[test]
    fn a_name_that_is_far_from_all_gets_no_suggestion() {
        let known = ["CHANCERY_NONCE_LIFETIME", "CHANCERY_LISTEN"];
        assert_eq!(nearest("CHANCERY_NONCE_LIFETYME", known.into_iter()), Some("CHANCERY_NONCE_LIFETIME"));
        assert_eq!(nearest("CHANCERY_LISEN", known.into_iter()), Some("CHANCERY_LISTEN"));
        assert_eq!(nearest("CHANCERY_COFFEE", known.into_iter()), None);
    }
}
